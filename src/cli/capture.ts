/** barter capture: a machine file from real devices, as sysfs or lspci shows them. */
import { basename } from 'node:path';
import type { Command } from 'commander';
import { Errno } from '../abi/errno.ts';
import { isSocket } from '../linux/is-socket.ts';
import { normalizeBdf, readPciDevice } from '../linux/sysfs.ts';
import { type CapturedSource, CaptureError, captureMachine } from '../machine/capture.ts';
import { memoriesOf, readForeignDevice } from '../machine/foreign-device.ts';
import { parseMachine } from '../machine/load.ts';
import { type LspciDevice, LspciError, parseLspci } from '../machine/lspci.ts';
import { DocumentError, readDocument } from '../machine/yaml.ts';
import { withSocket } from './socket-client.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

interface CaptureOptions {
  lspci?: string;
  json?: true;
}

export function addCaptureCommand(program: Command): void {
  declareCommand(program, 'capture')
    .argument(
      '[device...]',
      'PCI addresses, such as 0000:00:02.0 (lspci -D lists them), or sockets of vfio-user servers',
    )
    .option('--lspci <file>', 'take the devices from what lspci -vvv -xxxx printed; - is stdin')
    .option('--json', 'print the description as one JSON document')
    .addHelpText(
      'after',
      `
All of config space is readable to root only. What is behind the BARs is not captured: served, they are plain memory.
Of a vfio-user server its replies are captured: config space, and the sizes of its regions.
With --lspci, addresses choose among the devices of the text. Bridges, and devices that are off, are left out.

Examples:
  barter capture 0000:00:02.0 > mine.yaml
  barter capture 03:00.0 03:10.0 > card.yaml        a physical function and one of its virtual ones
  barter capture /tmp/dev.sock > foreign.yaml       the device of any vfio-user server
  sudo lspci -vvv -xxxx | barter capture --lspci - 01:00.0 > mine.yaml
  barter inspect mine.yaml
  barter serve mine.yaml`,
    )
    .action((addresses: string[], options: CaptureOptions) => {
      try {
        capture(addresses, options);
      } catch (error) {
        throw isUsers(error) ? new UsageError(error.message) : error;
      }
    });
}

/** Whether an error explains a fault in the user's input. */
function isUsers(error: unknown): error is Error {
  const isAddress = error instanceof Errno && ['EINVAL', 'ENODEV'].includes(error.code);
  return isAddress || [DocumentError, CaptureError, LspciError].some((kind) => error instanceof kind);
}

function capture(addresses: readonly string[], options: CaptureOptions): void {
  const devices = options.lspci === undefined ? sourcesOf(addresses) : fromLspci(options.lspci, addresses);
  const text = captureMachine(devices);
  // A capture must load again: parse it before it is printed.
  const description = parseMachine(text, 'the capture');
  process.stdout.write(options.json === true ? `${JSON.stringify(description)}\n` : text);
}

function sourcesOf(addresses: readonly string[]): CapturedSource[] {
  if (addresses.length === 0)
    throw new UsageError('capture wants a PCI address (lspci -D lists them), a socket, or --lspci FILE');
  return addresses.map((address, i) => {
    return address.includes('/') || isSocket(address) ? fromSocket(address, i) : readPciDevice(address);
  });
}

/** The device of a vfio-user server. Its address is made up, on a bus of its own. */
function fromSocket(path: string, number: number): CapturedSource {
  const device = withSocket(path, readForeignDevice);
  const { config, vendor, device: id, classCode } = device;
  const name = basename(path)
    .replace(/\.[^.]*$/, '')
    .replace(/[^A-Za-z0-9_.-]/g, '-');
  const bdf = `ffff:${number.toString(16).padStart(2, '0')}:00.0`;
  const unknown = { iommuGroup: null, driver: null, physfn: null, vpd: null };
  return { ...unknown, ...memoriesOf(device), name: name || 'device', bdf, config, vendor, device: id, classCode };
}

function devicesOf(path: string): LspciDevice[] {
  try {
    return parseLspci(readDocument(path));
  } catch (error) {
    if (!(error instanceof LspciError)) throw error;
    throw new LspciError(`${path === '-' ? 'stdin' : path}: ${error.message}`);
  }
}

function fromLspci(path: string, addresses: readonly string[]): LspciDevice[] {
  const devices = devicesOf(path);
  if (addresses.length === 0) return devices;
  return addresses.map((address) => {
    const wanted = normalizeBdf(address);
    const found = devices.find(({ bdf }) => bdf === wanted);
    if (found !== undefined) return found;
    throw new UsageError(`${wanted} is not in the text; there are: ${devices.map(({ bdf }) => bdf).join(', ')}`);
  });
}
