/** barter inspect SOCKET: the device of any vfio-user server as tables. */
import { type ForeignDevice, type ForeignRegion, readForeignDevice } from '../machine/foreign-device.ts';
import { sizeText } from '../machine/size-text.ts';
import { textTable } from '../report/table.ts';
import { wrapped } from '../report/wrap.ts';
import { withSocket } from './socket-client.ts';

/** Sparse areas in a cell of the table; the JSON has all. */
const MAX_AREAS = 3;

export function inspectSocket(path: string, json: boolean): void {
  const device = withSocket(path, readForeignDevice);
  if (json) console.log(JSON.stringify({ ...device, config: Buffer.from(device.config).toString('hex') }));
  else print(path, device);
}

function print(path: string, device: ForeignDevice): void {
  const hex = (value: number, width: number) => value.toString(16).padStart(width, '0');
  const ids = `${hex(device.vendor, 4)}:${hex(device.device, 4)}`;
  const subsystem = `${hex(device.subsystemVendor, 4)}:${hex(device.subsystem, 4)}`;
  console.log(wrapped(path));
  const identity = [[ids, subsystem, hex(device.classCode, 6), hex(device.revision, 2), words(device.flags)]];
  console.log(`\n${textTable(['id', 'subsystem', 'class', 'revision', 'flags'], identity)}`);
  const regions = device.regions.map((region) => [
    region.name,
    kindOf(region),
    sizeText(region.sizeBytes),
    region.flags.map((flag) => flag.toLowerCase()).join(' '),
    mappableOf(region),
  ]);
  console.log(`\n${textTable(['region', 'kind', 'size', 'flags', 'mappable'], regions)}`);
  const irqs = device.irqs.map(({ name, count, flags }) => [name, count, flags.join(' ').toLowerCase()]);
  console.log(irqs.length === 0 ? '\nInterrupts: none' : `\n${textTable(['interrupt', 'count', 'flags'], irqs)}`);
  console.log('\nCapabilities, with their offsets in config space');
  const all = device.capabilities.map((c) => `${c.name}@0x${hex(c.offset, c.extended ? 3 : 2)}`);
  console.log(wrapped(device.capabilityProblem ?? words(all), 2));
  const { migration, version } = device;
  const moves = migration === null ? 'no' : `${migration.flags.join(' ')}; the state is ${migration.state}`;
  const { maxMsgFds, maxDataXferBytes, maxDmaMaps, pageBytes } = version;
  const limits = `${sizeText(maxDataXferBytes)} of data and ${maxMsgFds} descriptors in a message`;
  console.log(`\nMigration: ${moves}`);
  console.log(`Features:  ${words(device.features)}`);
  console.log(`Limits:    ${limits},\n           ${maxDmaMaps} DMA maps in pages of ${sizeText(pageBytes)}`);
}

const words = (all: readonly string[]) => all.join(' ') || 'none';

function kindOf({ bar }: ForeignRegion): string {
  if (bar === null) return '';
  return bar.prefetchable ? `${bar.kind} prefetchable` : bar.kind;
}

function mappableOf({ mappable, sizeBytes, isMsixMappable }: ForeignRegion): string {
  if (mappable === null) return 'no';
  const areas = mappable.map((area) => `${sizeText(area.sizeBytes)}@0x${area.offset.toString(16)}`);
  const isWhole = mappable.length === 1 && mappable[0].sizeBytes === sizeBytes;
  const more = areas.length > MAX_AREAS ? ` and ${areas.length - MAX_AREAS} more` : '';
  const place = isWhole ? 'all' : `${areas.slice(0, MAX_AREAS).join(' ')}${more}`;
  return isMsixMappable ? `${place}, MSI-X table too` : place;
}
