/** Linux's own driver of the I/OAT engine on a served engine: it binds, tests the engine, and copies. */

import { Random } from '../../src/explore/search/random.ts';
import { packageFile } from '../../src/linux/package-file.ts';
import type { MemoryCopy } from '../agent/calls.ts';
import { CommandError } from '../host/command.ts';
import { Guest, guestAddress } from '../host/guest.ts';
import { type LabOptions, type LabResult, labRun, Served } from './run.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
/** The modules of the driver in the distribution's kernel, in load order. */
const IOAT_MODULES = ['dca', 'ioatdma'];
const COPIES = 100;
const MAX_BYTES = 2 ** 20;
const BATCH = 10;

export function ioatSelftest(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const served = await steps.take('serve the engine', async () => started.add(await Served.start(MACHINE)));
    const guest = await steps.take('boot the guest', async () =>
      started.add(
        await Guest.boot({ ...options, devices: [served.qemuDevice('borrower')], modules: ioatModules(options) }),
      ),
    );
    const { release } = await guest.call('hello', {});
    const address = guestAddress(0);
    steps.compare('its driver has bound', 'ioatdma', await driverOf(guest, address));
    // Bound again with debug messages on, it says when its copy test is done and its XOR test begins.
    const control = '/sys/kernel/debug/dynamic_debug/control';
    const driver = '/sys/bus/pci/drivers/ioatdma';
    await shell(guest, `echo 'module ioatdma +p' > ${control} && echo ${address} > ${driver}/unbind && dmesg -C`);
    await shell(guest, `echo ${address} > ${driver}/bind`);
    steps.compare('it binds again', 'ioatdma', await driverOf(guest, address));
    const log = (await shell(guest, "dmesg; echo 'module ioatdma -p' > /sys/kernel/debug/dynamic_debug/control")).split(
      '\n',
    );
    const passed = log.find((line) => line.includes('ioat_xor_val_self_test')) ?? null;
    steps.compare('its log has its self-test of copies behind it', true, passed !== null);
    steps.compare('its log has no complaint', [], log.filter(isComplaint));
    const before = await interruptsOf(guest);
    const copies = randomCopies(Date.now() % 2 ** 31);
    const wrong = await steps.take(
      `${COPIES} copies of random sizes`,
      async () => {
        const all: number[] = [];
        for (let i = 0; i < COPIES; i += BATCH)
          all.push(...(await guest.call('memcpy', { address, copies: copies.slice(i, i + BATCH) })));
        return all;
      },
      () => ({ seed: copies[0].seed, bytes: copies.reduce((sum, { length }) => sum + length, 0) }),
    );
    steps.compare(
      'bytes that are wrong after them',
      0,
      wrong.reduce((sum, count) => sum + count, 0),
    );
    const interrupts = (await interruptsOf(guest)) - before;
    steps.compare(`an interrupt for each copy: ${interrupts} for ${COPIES}`, true, interrupts >= COPIES);
    const after = (await shell(guest, 'dmesg')).split('\n').filter(isComplaint);
    steps.compare('its log has no complaint of the copies', [], after);
    return release;
  });
}

function isComplaint(line: string): boolean {
  if (line.includes('cancel completion timeout')) return false;
  return /ioat/i.test(line) && /selftest|self-test|halted|timeout|timed out|error|fail/i.test(line);
}

/** The modules of the driver. Throws CommandError if the kernel has none. */
export function ioatModules({ kernel }: LabOptions): string[] {
  if (kernel.modules()?.find('ioatdma') != null) return IOAT_MODULES;
  throw new CommandError(`ioatdma is a module of the distribution's kernel, and the ${kernel.name} kernel has none`);
}

/** The name of the driver that a device of the guest is bound to; empty if there is none. */
export async function driverOf(guest: Guest, address: string): Promise<string> {
  const link = `/sys/bus/pci/devices/${address}/driver`;
  return (await shell(guest, `basename "$(readlink ${link})"`)).trim();
}

async function shell(guest: Guest, command: string): Promise<string> {
  const { status, stdout, stderr } = await guest.call('shell', { command });
  if (status !== 0) throw new CommandError(`in the guest: ${command}: ${stderr}`);
  return stdout;
}

/** How many of the driver's interrupts all CPUs have received. */
async function interruptsOf(guest: Guest): Promise<number> {
  const lines = (await shell(guest, 'cat /proc/interrupts')).split('\n').filter((line) => line.includes('ioat-msix'));
  return lines
    .flatMap((line) =>
      line
        .trim()
        .split(/\s+/)
        .slice(1)
        .filter((word) => /^\d+$/.test(word)),
    )
    .reduce((sum, count) => sum + Number(count), 0);
}

/** Random copies with log-uniform sizes, at any offset. Source and destination do not overlap. */
function randomCopies(seed: number): MemoryCopy[] {
  const random = new Random(seed);
  return Array.from({ length: COPIES }, (_, i) => {
    const length = Math.max(1, Math.floor(2 ** (random.fraction() * Math.log2(MAX_BYTES))));
    const low = Math.floor(random.fraction() * 4096);
    const high = low + length + Math.floor(random.fraction() * 4096);
    const [from, to] = random.fraction() < 0.5 ? [low, high] : [high, low];
    return { from, to, length, seed: (seed + i) % 2 ** 31 };
  });
}
