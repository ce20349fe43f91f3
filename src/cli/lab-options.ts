/** The options that the lab's commands share: the kernel, and the rig that it runs on. */
import { type Command, Option } from 'commander';
import { ACCEL_CHOICES, type AccelChoice, chooseAccel } from '../../lab/host/accel.ts';
import { CommandError, WrongUse } from '../../lab/host/command.ts';
import type { Accel } from '../../lab/host/machine.ts';
import type { StageName } from '../../lab/host/prepare.ts';
import type { LabKernel } from '../../lab/kernel/kernel.ts';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { KERNELS } from '../../lab/kernel/named.ts';
import { prepareMissing } from './lab-prepare.ts';
import { integer, UsageError } from './usage.ts';

export interface KernelOptions {
  kernel: string;
  modules?: string;
}

export interface RigOptions extends KernelOptions {
  accel: AccelChoice;
  json?: true;
}

/** The rig that a guest of the lab runs on. */
export interface LabRig {
  kernel: LabKernel;
  accel: Accel;
  /** One line: the accelerator, and the reason for it. */
  why: string;
}

const NAMES = KERNELS.map(({ name }) => name).join(', ');

export function addKernelOptions(command: Command): Command {
  return command
    .option('--kernel <kernel>', `${NAMES}; or a path: a build tree, a bzImage, a vmlinux`, 'distribution')
    .option('--modules <dir>', "an image's modules: lib/modules/RELEASE");
}

export function addRigOptions(command: Command): Command {
  const accel = new Option('--accel <accel>', 'auto tries KVM with a guest, and takes TCG where it fails')
    .choices(ACCEL_CHOICES)
    .default('auto');
  return addKernelOptions(command).addOption(accel);
}

/** The kernel, ready to boot, and its rig. Makes the missing parts of the lab. */
export async function takeRig(options: RigOptions, also: readonly StageName[] = []): Promise<LabRig> {
  const kernel = findKernel(options.kernel, options.modules ?? null);
  await prepareMissing(kernel, options.json === true, also);
  const { accel, why } = await chooseAccel(options.accel, kernel);
  if (options.json !== true && options.accel === 'auto') console.error(`barter: ${why}`);
  return { kernel, accel, why };
}

export const KERNEL_HELP = `
Kernels:
${KERNELS.map(({ name, describe }) => `  ${name.padEnd(16)} ${describe}`).join('\n')}
  PATH             a build tree, or a bzImage or vmlinux with --modules (docs/lab.md)

iommufd and debug are built from the distribution's source when they are first asked for: 5 to 8 minutes each on two
cores. What a kernel complains of on its console (KASAN, lockdep, kmemleak, hung tasks, warnings) is listed in the
JSON as reports, and fails the command where docs/kernel-findings.md does not describe it.`;

export const LEAK_CHECK_OPTION = 'with a kernel that has kmemleak: look for memory that it has lost, before it ends';

export function demandLeakCheck({ hasKmemleak }: LabKernel, leakCheck: true | undefined): void {
  if (leakCheck === true && !hasKmemleak) {
    throw new UsageError('--leak-check needs a kernel with kmemleak: --kernel debug');
  }
}

export const numberOption = integer(0);

/** Prints a failure as a sentence, without a stack. The exit status is `status`, or 2 for wrong usage. */
export async function reported(action: () => Promise<void>, status = 1): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof WrongUse) throw new UsageError(error.message);
    if (!(error instanceof CommandError)) throw error;
    console.error(`barter: ${error.message}`);
    process.exitCode = status;
  }
}
