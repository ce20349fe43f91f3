/** barter peek, barter poke: reads and writes a region of any vfio-user server's device. */
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MEMORY } from '../abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../abi/vfio.ts';
import { askRegion } from '../machine/foreign-device.ts';
import { hexDump } from '../report/hex-dump.ts';
import type { VfioUserClient } from '../vfio-user/client/client.ts';
import { RefusedError } from '../vfio-user/client/exchange.ts';
import { PCI_REGION_NAMES } from '../vfio-user/client/flag-names.ts';
import { withSocket } from './socket-client.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

/** One load or store: these sizes are shown as a number. */
const SIZES = [1, 2, 4, 8];
const MAX_BYTES = 1 << 20;

interface PeekOptions {
  enable?: true;
  json?: true;
}

const ENABLE = ['--enable', 'switch on memory and I/O decoding first; a client that leaves switches it off'] as const;

function declareAccess(program: Command, name: 'peek' | 'poke'): Command {
  return declareCommand(program, name)
    .argument('<socket>', 'the socket of a vfio-user server')
    .argument('<region>', `a region: ${PCI_REGION_NAMES.join(', ')}, or its index`)
    .argument('<offset>', 'in bytes, such as 0x10');
}

export function addPeekCommand(program: Command): void {
  declareAccess(program, 'peek')
    .argument('[length]', 'in bytes: 1, 2, 4 and 8 are one access, shown as a number; others as a dump', '4')
    .option(...ENABLE)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Examples:
  barter peek /tmp/dev.sock config 0               vendor and device id
  barter peek /tmp/dev.sock config 0 256           all of config space
  barter peek /tmp/dev.sock bar0 0x10 8 --enable   a register of 64 bits`,
    )
    .action((path: string, region: string, offset: string, length: string, options: PeekOptions) => {
      const place = placeOf(region, offset);
      const bytes = Buffer.alloc(Number(numberOf('length', length, BigInt(MAX_BYTES), 1n)));
      access(path, place, options, (client) => client.readRegion(place.index, place.offset, bytes));
      const value = SIZES.includes(bytes.length) ? { value: `0x${hexOf(bytes)}` } : {};
      if (options.json === true) {
        const { name, offset: at } = place;
        console.log(JSON.stringify({ region: name, offset: at, bytes: bytes.toString('hex'), ...value }));
      } else console.log(value.value ?? hexDump(bytes, place.offset));
    });
}

export function addPokeCommand(program: Command): void {
  declareAccess(program, 'poke')
    .argument('<value>', 'a number, little-endian in the region')
    .option('--size <bytes>', 'of the one write: 1, 2, 4 or 8', '4')
    .option(...ENABLE)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The device is reset when the client leaves, if its server does so: Barter's does, and keeps the memory of BARs.

Examples:
  barter poke /tmp/dev.sock bar0 0x10 0xcafe --enable
  barter poke /tmp/dev.sock config 0x3c 11 --size 1`,
    )
    .action((path: string, region: string, offset: string, value: string, options: PeekOptions & { size: string }) => {
      const place = placeOf(region, offset);
      const size = Number(numberOf('--size', options.size, 8n, 1n));
      if (!SIZES.includes(size)) throw new UsageError(`--size ${size}: it takes 1, 2, 4 or 8`);
      const number = numberOf('value', value, 2n ** BigInt(8 * size) - 1n, 0n, `; --size says how many bytes`);
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(number);
      access(path, place, options, (client) => client.writeRegion(place.index, place.offset, bytes.subarray(0, size)));
      const written = `0x${number.toString(16).padStart(2 * size, '0')}`;
      const { name, offset: at } = place;
      if (options.json === true) console.log(JSON.stringify({ region: name, offset: at, size, value: written }));
      else console.log(`${written} at 0x${at.toString(16)} of ${name}`);
    });
}

interface RegionPlace {
  name: string;
  index: number;
  offset: number;
}

function placeOf(region: string, offset: string): RegionPlace {
  const named = (PCI_REGION_NAMES as readonly string[]).indexOf(region.toLowerCase());
  const index = named >= 0 ? named : /^\d{1,4}$/.test(region) ? Number(region) : null;
  if (index === null) {
    throw new UsageError(`there is no region ${region}; there are: ${PCI_REGION_NAMES.join(', ')}, and indexes`);
  }
  const at = Number(numberOf('offset', offset, BigInt(Number.MAX_SAFE_INTEGER), 0n));
  return { name: PCI_REGION_NAMES[index] ?? region, index, offset: at };
}

function numberOf(what: string, text: string, most: bigint, least: bigint, hint = ''): bigint {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? BigInt(text) : -1n;
  if (value >= least && value <= most) return value;
  throw new UsageError(`${what} ${text}: it takes a number from ${least} to 0x${most.toString(16)}${hint}`);
}

/** Makes one access. A refusal gets the likely reason, and the next step. */
function access(
  path: string,
  place: RegionPlace,
  { enable }: PeekOptions,
  body: (client: VfioUserClient) => void,
): void {
  withSocket(path, (client) => {
    if (enable === true) switchOn(client);
    const size = askRegion(client, place.index)?.sizeBytes ?? 0;
    const where = `0x${place.offset.toString(16)} of ${place.name}`;
    if (size === 0) throw new UsageError(`${path}: the device has no ${place.name}; see barter inspect ${path}`);
    try {
      body(client);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      const isOff = error.code === 'EIO' && enable !== true && place.index < VFIO_PCI_CONFIG_REGION_INDEX;
      const next = isOff ? '--enable switches memory on' : `${place.name} has ${size} bytes`;
      throw new Errno(error.code, `${path}: the server refuses the access at ${where}; ${next}`);
    }
  });
}

function switchOn(client: VfioUserClient): void {
  const command = Buffer.alloc(2);
  client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
  command.writeUInt16LE(command.readUInt16LE() | PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
  client.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
}

/** The bytes as one little-endian number in hexadecimal. */
function hexOf(bytes: Buffer): string {
  return Buffer.from(bytes).reverse().toString('hex');
}
