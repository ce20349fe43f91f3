/**
 * Captures real devices of a real kernel and serves them again: loads and serves the files that `barter capture` writes
 * in the guest, and checks that a client sees the captured device.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseConfigText } from '../../src/machine/config-text.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { Guest } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served, type Started, type Steps } from './run.ts';

const DEVICES = ['igb,romfile=', 'nvme,serial=barter', 'edu', 'ivshmem-plain,memdev=shared'];
const EXTRA = ['-object', 'memory-backend-memfd,id=shared,size=64M,share=on'];

export function guestCapture(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const guest = await steps.take('boot the guest', async () => {
      return started.add(await Guest.boot({ devices: DEVICES, extra: EXTRA, ...options }));
    });
    const { release, devices } = await guest.call('hello', {});
    const captures = await steps.take(
      `capture ${devices.length} devices`,
      () => guest.call('capture', { addresses: devices }),
      () => devices.join(' '),
    );
    const folder = mkdtempSync(join(tmpdir(), 'barter-captured-'));
    try {
      for (const [address, text] of Object.entries(captures)) {
        if (text !== null) await serveCaptured(steps, started, folder, address, text);
      }
      // PCI-to-PCI bridges, by their class in the guest's kernel.
      const { stdout } = await guest.call('shell', { command: 'cd /sys/bus/pci/devices; grep -l 0x0604 */class' });
      const bridges = stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.replace('/class', '')]));
      const refused = devices.filter((address) => captures[address] === null);
      steps.compare('bridges are refused, and nothing else', bridges, refused);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return release;
  });
}

async function serveCaptured(
  steps: Steps,
  started: Started,
  folder: string,
  address: string,
  text: string,
): Promise<void> {
  const path = join(folder, `${address}.yaml`);
  writeFileSync(path, text);
  const [device] = parseMachine(text, path).devices;
  if (device.model !== 'captured') throw new Error(`${address} was captured as ${device.model}`);
  const served = started.add(await Served.start(path));
  const client = new VfioUserClient(served.sockets.get(device.name)!);
  try {
    const ids = Buffer.alloc(12);
    client.readRegion(7, 0, ids);
    // COMMAND and STATUS, bytes 4 to 7, belong to the served device.
    const captured = Buffer.from(parseConfigText(device.config));
    const identity = (bytes: Buffer) => bytes.toString('hex', 0, 4) + bytes.toString('hex', 8, 12);
    const bars = device.bars.map((bar) => bar.size);
    const seen = device.bars
      .map((bar) => client.regionInfo(bar.index))
      .map((info) => {
        info.map?.fd.close();
        return info.sizeBytes;
      });
    steps.compare(`serve ${address}: ids and BARs`, [identity(captured), ...bars], [identity(ids), ...seen]);
  } finally {
    client.close();
    await served.stop();
  }
}
