/** barter screenshot: what the screen of a served device shows, as a PNG. */
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { isSocket } from '../linux/is-socket.ts';
import { readScreen } from '../machine/screen/client.ts';
import { screenPath } from '../machine/screen/protocol.ts';
import { pngOf } from '../report/png.ts';
import { demandWritable, writeWhole } from './files.ts';
import { socketFolders } from './socket-folders.ts';
import { declareCommand } from './summaries.ts';
import { integer, UsageError } from './usage.ts';

interface ScreenshotOptions {
  output?: string;
  scanout: number;
  json?: true;
}

export function addScreenshotCommand(program: Command): void {
  declareCommand(program, 'screenshot')
    .argument('<device>', 'the socket of a device with a screen, or the name of a device that barter serve serves')
    .option('-o, --output <file>', 'the PNG to write (default: NAME.png)')
    .option('--scanout <n>', 'which of the screens of the device', integer(0), 0)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
The device reads the memory that its screen shows, at that moment. Memory that was taken back cannot be read: the
command says so, and ends with status 1. It does not disturb the client of the device.

Examples:
  barter screenshot gpu
  barter screenshot /run/barter/gpu.sock -o screen.png`,
    )
    .action((device: string, options: ScreenshotOptions) => screenshot(device, options));
}

function screenshot(device: string, options: ScreenshotOptions): void {
  if (options.output !== undefined) demandWritable(options.output, '--output FILE');
  const path = findScreen(device);
  const picture = readScreen(path, options.scanout);
  const file = options.output ?? `${basename(path, '.screen')}.png`;
  writeWhole(file, pngOf(picture), '--output');
  const { width, height } = picture;
  if (options.json === true) console.log(JSON.stringify({ file, width, height }));
  else console.log(`${file}: ${width}x${height} pixels`);
}

/** Finds the screen's socket: of the device's own socket, or of a device of that name in the folders of servers. */
function findScreen(device: string): string {
  if (device.includes('/') || device.endsWith('.sock') || device.endsWith('.screen')) {
    const path = screenPath(device.replace(/\.screen$/, '.sock'));
    if (isSocket(path)) return path;
    if (isSocket(device)) throw new UsageError(`${device}: the device has no screen; models with screens: virtio-gpu`);
    throw new UsageError(`${device}: there is no such socket; barter serve prints its sockets`);
  }
  const found = socketFolders().flatMap((folder) => {
    const path = join(folder, `${device}.screen`);
    return isSocket(path) ? [path] : [];
  });
  if (found.length === 1) return found[0];
  if (found.length > 1) throw new UsageError(`${device} is at ${found.join(' and ')}; name one of these sockets`);
  throw new UsageError(
    `no server has a screen ${device} in a default folder; name its socket, as barter serve prints it`,
  );
}
