/**
 * Machine files over the whole schema, most of which could exist. The draws include missing and wrong fields, so that
 * the checks accept some and refuse others. No generator here checks whether a file is valid.
 */
import fc from 'fast-check';

type Json = Record<string, unknown>;

const SIZES = ['16', '4K', '64K', '1M', '64M', '8G', '1T', 16, 256, 4096, 2 ** 20, 2 ** 31, 2 ** 32, 2 ** 46];
const ODD_SIZES = [1, 2, 4, 8, 0, 3, -1, 'x', '3K', '4k', '64T', '128T', 2 ** 47, 1.5, null];
const often = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<unknown>, weight = 400): fc.Arbitrary<unknown> =>
  fc.oneof({ weight, arbitrary: usual as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: odd });
const oddNumber = fc.constantFrom(-1, 0x10000, 0x1000000, 1.5, '1', null, Number.MAX_SAFE_INTEGER, 2 ** 32);

const u8 = often(fc.integer({ min: 0, max: 0xff }), oddNumber);
const u16 = often(fc.integer({ min: 0, max: 0xffff }), fc.oneof(oddNumber, fc.constantFrom(0, 0xffff)));
const u24 = often(fc.integer({ min: 0, max: 0xffffff }), fc.oneof(oddNumber, fc.constantFrom(0x060400, 0x060000)));
const flag = often(fc.boolean(), fc.constantFrom('yes', 1, null));
const size = often(fc.constantFrom(...SIZES), fc.constantFrom(...ODD_SIZES));

/** Any of these fields may be missing. */
const optional = (fields: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<Json> =>
  fc.record(fields, { requiredKeys: [] }) as fc.Arbitrary<Json>;

/** BARs in slots that mostly do not overlap: each takes one or two of the six, from the first on. */
export const bars = fc
  .array(
    fc.record({
      kind: often(fc.constantFrom('mem64', 'mem64', 'mem32', 'io'), fc.constantFrom('mem', undefined)),
      gap: fc.constantFrom(0, 0, 0, 1),
      shift: often(fc.constant(0), fc.integer({ min: -2, max: 2 })),
      size,
      ioSize: often(fc.constantFrom(1, 2, 4, 8, 32, 256), fc.constantFrom<number | string>(...SIZES)),
      rest: optional({ prefetchable: often(fc.boolean(), flag) }),
    }),
    { minLength: 0, maxLength: 5 },
  )
  .map((list) => {
    let slot = 0;
    return list.flatMap(({ kind, gap, shift, size: bytes, ioSize, rest }) => {
      const index = slot + gap + Number(shift);
      slot += gap + (kind === 'mem64' ? 2 : 1);
      const isLarge = ['8G', '1T', 2 ** 32, 2 ** 46].includes(bytes as string);
      const own = kind === 'io' ? ioSize : kind === 'mem32' && isLarge ? '64M' : bytes;
      if (kind === 'io') delete rest.prefetchable;
      return slot > 6 ? [] : [{ index, kind, size: own, ...rest }];
    });
  });

const offset = often(
  fc.oneof(
    fc.constantFrom(0, 0x800, 0x1000, 0x8000),
    fc.integer({ min: 0, max: 0x400 }).map((value) => 8 * value),
  ),
  fc.constantFrom(-8, 4, 7, 2 ** 31, 2 ** 32, 'x'),
);
const vectors = often(fc.constantFrom(1, 2, 4, 16, 64, 128, 129, 256, 2048), fc.constantFrom(0, 2049, -1, 1.5));
const msix = fc
  .record({ vectors, bar: often(fc.constant('memory'), fc.constantFrom(0, 1, 3, 5, 6, -1)) })
  .chain((rest) => optional({ tableOffset: offset, pbaOffset: offset }).map((more) => ({ ...rest, ...more })));

const LINE_AND_STATES = {
  intx: flag,
  pm: optional({ noSoftReset: flag, d1: flag, d2: flag }),
  express: optional({ flr: flag }),
  af: flag,
};
const msi = fc.record({ vectors: often(fc.constantFrom(1, 2, 4, 8, 16, 32), fc.constantFrom(0, 3, 64)) });
const capabilities = optional({ ...LINE_AND_STATES, msi });
const withMsix = fc.oneof(
  capabilities,
  fc.tuple(capabilities, msix).map(([rest, msix]) => ({ ...rest, msix })),
);
const identity = optional({
  vendor: u16,
  device: u16,
  class: u24,
  revision: u8,
  subsystemVendor: u16,
  subsystem: u16,
});

const channels = often(fc.integer({ min: 1, max: 4 }), fc.constantFrom(0, 5));
const memoryDevice = fc
  .tuple(
    identity,
    often(
      bars.filter((list) => list.length > 0),
      fc.constant([]),
    ),
    withMsix,
  )
  .map(([ids, list, capabilities]) => {
    const msix = Object(Object(capabilities).msix) as Json;
    const memory = (list as Json[]).find(({ kind }) => kind !== 'io');
    if (msix.bar === 'memory' && memory === undefined) delete (capabilities as Json).msix;
    else if (msix.bar === 'memory') msix.bar = memory!.index;
    return { model: 'memory', ...ids, bars: list, capabilities };
  });
const ioatDevice = fc
  .tuple(identity, optional({ channels, capabilities: optional(LINE_AND_STATES) }))
  .map(([ids, rest]) => ({ model: 'ioat', ...ids, ...rest }));

/** Standard capability ids with room for each, as in hardware, and vendor capabilities of any length. */
const standardCaps = fc.uniqueArray(fc.integer({ min: 1, max: 0x16 }), { maxLength: 4 });
const extendedCaps = fc.uniqueArray(fc.integer({ min: 1, max: 0x30 }), { maxLength: 12 });

const captured = fc.record({
  length: often(fc.constantFrom(64, 256, 256, 256, 4096), fc.constantFrom(0, 16, 63, 65, 128, 272, 4097)),
  standard: standardCaps,
  extended: extendedCaps,
  noise: fc.uint8Array({ minLength: 0x40, maxLength: 0x40 }),
  quiet: fc.constantFrom(true, true, false),
  headerType: often(fc.constantFrom(0, 0x80), fc.constantFrom(1, 2, 3, 0x81)),
  pin: often(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 5, max: 255 })),
  damage: often(fc.constant(null), fc.tuple(fc.nat(4095), fc.nat(255))),
  form: fc.constantFrom('digits', 'lines', 'offsets', 'lspci'),
  msixBar: fc.constantFrom(0, 0, 0, 2),
  vendor: often(fc.constant(0x8086), fc.constantFrom(0xffff, 0)),
  rest: optional({ romSize: often(fc.constantFrom('2K', '64K', '16M'), size) }),
  bars,
});

/** A dump with the capabilities in a row, each with as many bytes as it may need. */
function dumpOf(c: Captured): string {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt16LE(c.vendor as number, 0);
  bytes.writeUInt16LE(0x1533, 2);
  bytes.writeUInt16LE(0x0010, 6);
  bytes.writeUInt32LE(0x02000003, 8);
  bytes[0x0e] = c.headerType as number;
  bytes[0x3d] = c.pin as number;
  let link = 0x34;
  let at = 0x40;
  for (const id of c.standard) {
    const length = [0x10, 0x40][Number(id === 0x10)];
    if (at + length > 0x100) break;
    bytes[link] = at;
    if (!c.quiet) bytes.set(c.noise.subarray(0, length), at);
    bytes.set([id, 0], at);
    fillStandard(bytes, id, at, c);
    link = at + 1;
    at += length;
  }
  let previous = 0;
  at = 0x100;
  for (const id of c.extended) {
    const length = 0x100;
    if (!c.quiet) bytes.set(c.noise, at);
    bytes.writeUInt32LE(0x10000 | id, at);
    if (id === 0x0b || id === 0x23) bytes.writeUInt32LE((0x20 << 20) | 1, at + 4);
    if (previous !== 0) bytes.writeUInt32LE(((at << 20) | bytes.readUIntLE(previous, 2) | 0x10000) >>> 0, previous);
    previous = at;
    at += length;
  }
  if (c.damage !== null) {
    const [where, value] = c.damage as [number, number];
    bytes[where] = value;
  }
  return textOf(bytes.subarray(0, c.length as number), c.form);
}

function fillStandard(bytes: Buffer, id: number, at: number, { msixBar }: Captured): void {
  if (id === 0x05) bytes.writeUInt16LE(0x0086, at + 2);
  if (id === 0x09) bytes[at + 2] = 0x10;
  if (id === 0x10) bytes.writeUInt16LE(0x0002, at + 2);
  if (id !== 0x11) return;
  bytes.writeUInt16LE(0x8003, at + 2);
  bytes.writeUInt32LE(msixBar, at + 4);
  bytes.writeUInt32LE(0x800 | msixBar, at + 8);
}

function textOf(bytes: Buffer, form: Captured['form']): string {
  const hex = bytes.toString('hex');
  if (form === 'digits') return hex;
  const lines = (hex.match(/.{1,32}/g) ?? []).map((line) => line.replace(/../g, '$& ').trim());
  if (form === 'lines') return lines.join('\n');
  const dump = lines.map((line, i) => `${(16 * i).toString(16).padStart(2, '0')}: ${line}`).join('\n');
  return form === 'offsets' ? dump : `07:00.0 Ethernet controller: something\n\tSubsystem: else\n${dump}\n`;
}

type Captured = typeof captured extends fc.Arbitrary<infer T> ? T : never;
const vpd = often(fc.constantFrom('82 01 00 41 78', '0b 01 02 03 78'), fc.constantFrom('78', '82 01 00', 'x', 3, ''));
const capturedDevice = fc.tuple(captured, vpd).map(([c, data]) => ({
  model: 'captured',
  config: dumpOf(c),
  bars: c.bars,
  ...(c.standard.includes(0x03) ? { vpd: data } : {}),
  ...c.rest,
}));

/** Trees of ports: each port is below an earlier one that accepts it, with a few exceptions. */
const ports = fc.array(fc.tuple(fc.nat(5), fc.nat(7), optional({ requestRedirect: flag, egressControl: flag })), {
  minLength: 1,
  maxLength: 8,
});

function portsOf(draws: [number, number, Json][]): Json[] {
  const made: Json[] = [{ name: 'p0', kind: 'root' }];
  for (const [i, [kind, parent, acs]] of draws.entries()) {
    const above = made[parent % made.length];
    const hasSwitch = made.some((port) => port.parent === above.name && port.kind === 'upstream');
    const lower = above.kind === 'upstream' ? 'downstream' : 'upstream';
    const port = kind < 2 || hasSwitch ? { kind: 'root' } : { kind: lower, parent: above.name };
    made.push({ name: `p${i + 1}`, ...port, ...(kind % 2 === 0 && { acs }) });
  }
  // One port is free for devices.
  return [...made, { name: 'last', kind: 'root' }];
}

const device = fc.oneof(
  { weight: 3, arbitrary: memoryDevice as fc.Arbitrary<Json> },
  { weight: 1, arbitrary: ioatDevice as fc.Arbitrary<Json> },
  { weight: 3, arbitrary: capturedDevice as fc.Arbitrary<Json> },
);
const placed = fc.tuple(device, fc.nat(20), fc.constantFrom('', '', '', 'sriov', 'vf', 'vf'), fc.nat(30));

/** Devices in ports that mostly accept them, and virtual functions in the port of a physical one. */
function devicesOf(ports: Json[], draws: [Json, number, string, number][]): Json[] {
  const parents = new Set(ports.map(({ parent }) => parent));
  const free = ports.filter(({ name, kind }) => kind !== 'upstream' && !parents.has(name));
  const made: Json[] = [];
  for (const [i, [device, where, role, odd]] of draws.entries()) {
    const port = odd === 30 ? 'p0' : (free[where % free.length] ?? ports[0]).name;
    const own: Json = { name: odd === 29 ? 'd0' : `d${i}`, port, ...device };
    const physical = made.filter(({ capabilities }) => Object(capabilities).sriov !== undefined);
    if (role === 'sriov' && device.model === 'memory') {
      own.capabilities = { ...Object(own.capabilities), express: { flr: true }, sriov: { vfDevice: 0x10ca } };
    }
    if (role === 'vf' && physical.length > 0 && device.model !== 'ioat') {
      const physfn = physical[where % physical.length];
      Object.assign(own, { physfn: physfn.name, port: physfn.port });
      delete own.romSize;
    }
    made.push(own);
  }
  return made;
}

const host = optional({
  cpu: often(fc.constantFrom('amd', 'intel', 'other'), fc.constant('arm')),
  cpuFamily: u8,
  bridge: fc.record({ vendor: u16, device: u16 }),
  busOffset: often(fc.constantFrom(0, 0x1000, 2 ** 40, -0x8000_0000, 2 ** 51), fc.constantFrom(1, 2 ** 52, -(2 ** 40))),
  iommu: often(fc.constantFrom('translated', 'passthrough', 'none'), fc.constant('off')),
});

const WRONG = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    [],
    {},
    true,
    -1,
    0,
    6,
    2 ** 31,
    2 ** 53,
    1e300,
    '0x10',
    '64M',
    'root',
    'd0',
    'p0',
  ),
  fc.jsonValue({ maxDepth: 2 }),
);

/** A machine file as an object, for JSON or YAML. */
export const machine: fc.Arbitrary<Json> = fc
  .record({
    host: fc.option(host, { nil: undefined }),
    ports,
    devices: fc.array(placed, { minLength: 1, maxLength: 4 }),
    description: fc.option(fc.string(), { nil: undefined }),
  })
  .map(({ host, ports: draws, devices, description }) => {
    const made = portsOf(draws as [number, number, Json][]);
    return {
      machine: 'm',
      ...(description !== undefined && { description }),
      ...(host !== undefined && { host }),
      ports: made,
      devices: devicesOf(made, devices as [Json, number, string, number][]),
    };
  });

/** A file with one field removed, doubled, or set to a value that is wrong in most places. */
export const damagedMachine: fc.Arbitrary<unknown> = fc
  .tuple(machine, fc.nat(), fc.constantFrom('drop', 'set', 'set', 'set', 'double', 'add'), WRONG)
  .map(([object, where, action, wrong]) => {
    const copy = structuredClone(object) as Json;
    const places: [Json, string][] = [];
    const walk = (node: unknown): void => {
      if (typeof node !== 'object' || node === null) return;
      for (const key of Object.keys(node)) {
        places.push([node as Json, key]);
        walk((node as Json)[key]);
      }
    };
    walk(copy);
    const [holder, key] = places[where % places.length];
    if (action === 'drop') delete holder[key];
    else if (action === 'set') holder[key] = wrong;
    else if (action === 'add') holder[`${key}x`] = wrong;
    else if (Array.isArray(holder)) holder.push(holder[Number(key)]);
    return copy;
  });
