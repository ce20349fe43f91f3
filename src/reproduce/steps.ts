/** Each step of a scenario as a call of the program's functions (runtime.c and the importers beside it). */
import type { Step, StepOf } from '../scenario/step.ts';
import { toU64 } from '../scenario/step.ts';

export interface StepContext {
  importer: 'none' | 'iommufd' | 'module';
  /** The C variable of a device. */
  variable: (device: string) => string;
}

/** The scenario cannot be written in C. */
export class ReproducerError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ReproducerError';
  }
}

function unwritten(op: string): ReproducerError {
  return new ReproducerError(`the step ${op} cannot be written in C yet`);
}

/** The lines of one step: its call, and the comparison of its result with the right one. */
export function stepCall(step: Step, number: number, context: StepContext): string {
  const call = callOf(step, context);
  if (call === null) return `\t/* ${number} ${step.op}: iommufd is not told of it */`;
  const { right, known } = expected(step, context);
  const check = `\tcheck(${number}, ${quoted(describe(step))}, ${call},\n\t      ${right}, ${known});`;
  return right === null ? `\t${call};` : check;
}

/** The expected results, as C strings; `known` is Linux's result if it is wrong. */
function expected(step: Step, { importer }: StepContext): { right: string | null; known: string } {
  const { expect, linux } = step;
  if (expect === undefined) return { right: null, known: 'NULL' };
  const known = linux === undefined ? undefined : linux;
  if (importer === 'iommufd' && (step.op === 'map' || step.op === 'attach')) {
    return { right: quoted(mapped(expect)), known: known === undefined ? 'NULL' : quoted(mapped(known)) };
  }
  return { right: quoted(plain(expect)), known: known === undefined ? 'NULL' : quoted(plain(known)) };
}

/** iommufd refuses a revoked buffer with ENODEV, both for an attachment and for a mapping. */
function mapped(expect: unknown): string {
  return expect === null || Array.isArray(expect) ? 'mapped' : 'ENODEV';
}

function plain(expect: unknown): string {
  return typeof expect === 'string' ? expect : JSON.stringify(expect);
}

function quoted(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

function describe(step: Step): string {
  const { op } = step;
  const words = Object.entries(step).filter(([key]) => !['op', 'expect', 'linux', 'next', 'payload'].includes(key));
  return [op, ...words.map(([key, value]) => `${key}=${plain(value)}`)].join(' ');
}

const LOW_POWER = { 'low-power-entry': 'ENTRY', 'low-power-exit': 'EXIT' } as const;

/** The C call of a step; null if the importer lacks it. */
function callOf(step: Step, context: StepContext): string | null {
  if ('device' in step && step.op !== 'attach') return deviceCall(step, `&${context.variable(step.device)}`);
  switch (step.op) {
    case 'mmap-read':
      return `read_map("${step.map}", ${toU64(step.offset)}, ${step.length})`;
    case 'event-count':
      return `event_count("${step.event}")`;
    case 'close-fd':
      return `close_thing("${step.fd}")`;
    case 'hold-fd':
      if (step.how !== 'o-path') throw unwritten(`hold-fd by ${step.how}`);
      return `hold_path("${step.fd}", "${step.as}")`;
    case 'release-hold':
      return `close_thing("${step.hold}")`;
    case 'sysfs-rescan':
      return 'sysfs_rescan()';
    case 'start':
      return `START("${step.as}", ${callOf(step.step, context)})`;
    case 'join':
      return `join("${step.of}")`;
    case 'attach':
    case 'map':
    case 'unmap':
    case 'detach':
    case 'callbacks':
      return context.importer === 'iommufd' ? iommufdCall(step) : moduleCall(step, context);
    default:
      throw unwritten(step.op);
  }
}

function deviceCall(step: Exclude<Extract<Step, { device: string }>, StepOf<'attach'>>, device: string): string {
  switch (step.op) {
    case 'open':
      return `open_device(${device}, ${step.vfToken === undefined ? 'NULL' : quoted(uuid(step.vfToken))})`;
    case 'memory':
      return `memory(${device}, ${step.on ? 1 : 0})`;
    case 'power':
      return `power(${device}, ${step.state})`;
    case 'flr':
    case 'reset':
      return `${step.op}(${device})`;
    case 'config-read':
      return `config_read(${device}, ${step.offset}, ${step.size})`;
    case 'config-write':
      return `config_write(${device}, ${step.offset}, ${step.size}, ${step.value}u)`;
    case 'cap-read':
      if (step.ext === true) throw unwritten('cap-read of an extended capability');
      return `cap_read(${device}, ${step.cap}, ${step.offset}, ${step.size})`;
    case 'cap-write':
      if (step.ext === true) throw unwritten('cap-write of an extended capability');
      return `cap_write(${device}, ${step.cap}, ${step.offset}, ${step.size}, ${step.value}u)`;
    case 'region-read':
      return `region_read(${device}, ${step.region}, ${toU64(step.offset)}, ${step.length})`;
    case 'sysfs-reset':
      if (step.method !== undefined) throw unwritten('sysfs-reset by a method');
      return `sysfs_reset(${device})`;
    case 'aer-inject':
      return `inject_error(${device}, ${step.fatal ? 1 : 0})`;
    case 'sysfs-unbind':
      return `sysfs_unbind(${device})`;
    case 'sysfs-remove':
      return `sysfs_remove(${device})`;
    case 'sysfs-bind':
      return `sysfs_bind(${device})`;
    case 'close':
      return `close_device(${device})`;
    case 'sysfs-reset-subordinate':
      return `sysfs_reset_subordinate(${device})`;
    case 'sysfs-config-read':
      return `sysfs_config_read(${device}, ${step.offset}, ${step.size})`;
    case 'sysfs-config-write':
      return `sysfs_config_write(${device}, ${step.offset}, ${step.size}, ${step.value}u)`;
    case 'low-power-entry':
    case 'low-power-exit':
      return `low_power(${device}, VFIO_DEVICE_FEATURE_LOW_POWER_${LOW_POWER[step.op]})`;
    case 'low-power-entry-with-wakeup':
      return `low_power_with_wakeup(${device}, "${step.as}")`;
    case 'mmap':
      return `map_region(${device}, ${step.region}, ${toU64(step.offset)}, ${toU64(step.length)}, "${step.as}")`;
    case 'feature': {
      const bytes = step.payload.replaceAll(/../g, '\\x$&');
      return `feature(${device}, ${step.flags}u, ${step.argsz}, "${bytes}", ${step.payload.length / 2})`;
    }
    case 'export':
      return exportCall(step, device);
    default:
      throw unwritten(step.op);
  }
}

function exportCall({ region, ranges, as = 'buffer', ...rest }: StepOf<'export'>, device: string): string {
  if (rest.flags !== undefined || rest.openFlags !== undefined || rest.nrRanges !== undefined) {
    throw unwritten('export with flags');
  }
  const list = ranges.map(([offset, length]) => `{ ${toU64(offset)}ull, ${toU64(length)}ull }`).join(', ');
  return `export_buffer(${device}, ${region}, (struct range[]){ ${list} }, ${ranges.length}, "${as}")`;
}

type ImporterCall = StepOf<'attach' | 'map' | 'unmap' | 'detach' | 'callbacks'>;

/** The call of an importer's step for iommufd. An attachment is only a trial, since iommufd attaches when it maps. */
function iommufdCall(step: ImporterCall): string | null {
  switch (step.op) {
    case 'attach':
      return `try_map("${step.fd}", "${step.as}")`;
    case 'map':
      return `map_buffer(buffer_of("${step.importer}"), "${step.as}")`;
    case 'unmap':
      return `unmap_buffer("${step.map}")`;
    default:
      return null;
  }
}

function moduleCall(step: ImporterCall, { variable }: StepContext): string {
  switch (step.op) {
    case 'attach': {
      const { kind = 'dynamic', onInvalidate = 'unmap', dmaBits = 64 } = step;
      const how = quoted(`${kind} ${onInvalidate} ${dmaBits}`);
      return `attach_importer("${step.fd}", &${variable(step.device)}, "${step.as}", ${how})`;
    }
    case 'map':
      return `map_importer("${step.importer}", "${step.as}")`;
    case 'unmap':
      return `unmap_importer("${step.map}")`;
    case 'detach':
      return `detach_importer("${step.importer}")`;
    case 'callbacks':
      return `callbacks("${step.importer}")`;
  }
}

function uuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
