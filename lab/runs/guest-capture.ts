/**
 * Captures real devices of a real kernel, serves them, and captures them again: a client and a second guest both see
 * the devices that the first guest has.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { packageFile } from '../../src/linux/package-file.ts';
import type { CapturedDescription } from '../../src/machine/check/captured.ts';
import { parseConfigText } from '../../src/machine/config-text.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { differencesOf } from '../capture/compare.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served, type Started, type Steps } from './run.ts';

const DEVICES = ['igb,romfile=', 'nvme,serial=barter', 'edu', 'ivshmem-plain,memdev=shared'];
const EXTRA = ['-object', 'memory-backend-memfd,id=shared,size=64M,share=on'];

export function guestCapture(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const { release, captured } = await captureIn(await bootGuest(steps, started, options), steps);
    const folder = mkdtempSync(join(tmpdir(), 'barter-captured-'));
    try {
      const path = join(folder, 'captured.json');
      writeFileSync(path, JSON.stringify(machineOf(captured)));
      const served = started.add(await Served.start(path));
      for (const [i, device] of captured.entries()) compareServed(steps, device, served.sockets.get(nameOf(i))!);
      const devices = captured.map((_, i) => served.qemuDevice(nameOf(i)));
      const second = await steps.take('boot a guest with the served devices', async () =>
        started.add(await Guest.boot({ ...options, devices })),
      );
      const addresses = captured.map((_, i) => guestAddress(i));
      const again = await steps.take('capture them again', () => second.call('capture', { addresses }));
      for (const [i, device] of captured.entries()) {
        const text = again[addresses[i]];
        const seen = text === null ? ['it is refused'] : differencesOf(device, deviceOf(text));
        steps.compare(`${device.name}, served and captured again: no difference`, [], seen);
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return release;
  });
}

async function bootGuest(steps: Steps, started: Started, options: LabOptions): Promise<Guest> {
  const served = started.add(await Served.start(packageFile('lab/capture/machine.yaml')));
  const devices = [...DEVICES, served.qemuDevice('product')];
  return await steps.take('boot the guest', async () =>
    started.add(await Guest.boot({ ...options, devices, extra: EXTRA })),
  );
}

/** Captures every device of the guest, and stops it. The devices are those that were not refused. */
async function captureIn(guest: Guest, steps: Steps): Promise<{ release: string; captured: CapturedDescription[] }> {
  const { release, devices } = await guest.call('hello', {});
  const captures = await steps.take(
    `capture ${devices.length} devices`,
    () => guest.call('capture', { addresses: devices }),
    () => devices.join(' '),
  );
  // PCI-to-PCI bridges, by their class in the guest's kernel.
  const { stdout } = await guest.call('shell', { command: 'cd /sys/bus/pci/devices; grep -l 0x0604 */class' });
  const bridges = stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.replace('/class', '')]));
  const refused = devices.filter((address) => captures[address] === null);
  steps.compare('bridges are refused, and nothing else', bridges, refused);
  await guest.stop();
  const texts = devices.flatMap((address) => captures[address] ?? []);
  return { release, captured: texts.map(deviceOf) };
}

function deviceOf(text: string): CapturedDescription {
  const [device] = parseMachine(text, 'the capture').devices;
  if (device.model !== 'captured') throw new Error(`${device.name} was captured as ${device.model}`);
  return device;
}

const nameOf = (index: number): string => `d${index}`;

/** One machine with all devices, each below a port of its own. */
function machineOf(devices: readonly CapturedDescription[]): object {
  return {
    machine: 'captured',
    ports: devices.map((_, i) => ({ name: `p${i}`, kind: 'root' })),
    devices: devices.map((device, i) => ({ ...device, name: nameOf(i), port: `p${i}` })),
  };
}

/** Compares what a client of the served device sees with the capture. */
function compareServed(steps: Steps, device: CapturedDescription, socket: string): void {
  const client = new VfioUserClient(socket);
  try {
    const config = Buffer.alloc(64);
    client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, 0, config);
    const bars = device.bars.map(({ index }) => {
      const { map, sizeBytes } = client.regionInfo(index);
      map?.fd.close();
      return sizeBytes;
    });
    // COMMAND and STATUS, bytes 4 to 7, belong to the served device.
    const idsOf = (bytes: Buffer) => bytes.toString('hex', 0, 4) + bytes.toString('hex', 8, 12);
    steps.compare(
      `serve ${device.name}: ids and BARs`,
      [idsOf(Buffer.from(parseConfigText(device.config))), ...device.bars.map((bar) => bar.size)],
      [idsOf(config), ...bars],
    );
  } finally {
    client.close();
  }
}
