/**
 * Chooses KVM if it can run a kernel, else TCG. On some hosts /dev/kvm opens and makes a processor, but KVM cannot run
 * the instructions of a distribution's kernel. So a guest boots that kernel and reports that it reached its first
 * process. The result is kept for this host, this QEMU and this kernel.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import type { LabKernel } from '../kernel/kernel.ts';
import { labPath } from './cache.ts';
import { CommandError } from './command.ts';
import { writeBareImage } from './guest-image.ts';
import { bareInit } from './init.ts';
import { type Accel, machineArguments } from './machine.ts';
import { qemuVersion } from './qemu.ts';
import { QemuProcess } from './qemu-process.ts';

export type AccelChoice = 'auto' | Accel;
export const ACCEL_CHOICES: readonly AccelChoice[] = ['auto', 'kvm', 'tcg'];

export interface ChosenAccel {
  accel: Accel;
  /** One line with the choice and its reason. */
  why: string;
}

const DEVICE = '/dev/kvm';
const CAME_UP = 'barter: the probe came up';
/** With KVM a kernel needs a second or two. A kernel whose instructions KVM cannot run may hang for ever. */
const PROBE_TIMEOUT_MS = 30_000;

/** Throws CommandError if the user asks for KVM and it does not work. */
export async function chooseAccel(choice: AccelChoice, kernel: LabKernel): Promise<ChosenAccel> {
  if (choice === 'tcg') return { accel: 'tcg', why: 'TCG, as asked for' };
  const fault = openFault() ?? (await keptProbe(kernel));
  if (fault === null) return { accel: 'kvm', why: 'KVM: it booted this kernel' };
  if (choice === 'kvm') throw new CommandError(`KVM does not work here: ${fault}; use --accel tcg`);
  return { accel: 'tcg', why: `TCG, since KVM does not work here: ${fault}` };
}

function openFault(): string | null {
  try {
    closeSync(openSync(DEVICE, 'r+'));
    return null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? `there is no ${DEVICE}` : `${DEVICE} cannot be opened (${code})`;
  }
}

/** Returns the reason why KVM cannot run the kernel, or null. A probe takes seconds, so its result is kept. */
async function keptProbe(kernel: LabKernel): Promise<string | null> {
  const image = kernel.image();
  const { mtimeMs, size } = statSync(image);
  const facts = [release(), cpus()[0]?.model, await qemuVersion(), image, mtimeMs, size];
  const key = createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 16);
  const path = labPath(`kvm-${key}.json`);
  if (existsSync(path)) return (JSON.parse(readFileSync(path, 'utf8')) as { fault: string | null }).fault;
  const fault = await probe(kernel);
  writeFileSync(path, JSON.stringify({ fault }));
  return fault;
}

async function probe(kernel: LabKernel): Promise<string | null> {
  let output = '';
  let qemu: QemuProcess | null = null;
  const watch = (part: Buffer): void => {
    output += part.toString('latin1');
    // QEMU stops such a guest, but does not end.
    if (/KVM internal error|error: kvm/i.test(output)) qemu?.kill();
  };
  const started = await QemuProcess.start(
    (folder) => {
      const initrd = join(folder, 'initrd.gz');
      writeBareImage(initrd, bareInit(CAME_UP));
      return machineArguments(initrd, { kernel, accel: 'kvm', devices: [] });
    },
    { onOutput: watch },
  );
  qemu = started;
  await started.endWithin(PROBE_TIMEOUT_MS);
  await started.dispose();
  if (output.includes(CAME_UP)) return null;
  const said = /^.*(KVM internal error.*|kvm.*(?:failed|error).*)$/im.exec(output)?.[1].trim();
  return said ?? `a guest with it did not come to its first process within ${PROBE_TIMEOUT_MS / 1000} s`;
}
