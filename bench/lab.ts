/** How long `barter lab exec` takes until its command starts, against the same kernel with an empty first process. */
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { writeBareImage } from '../lab/host/guest-image.ts';
import { bareInit } from '../lab/host/init.ts';
import { HOST_FILES, machineArguments, portArguments } from '../lab/host/machine.ts';
import { missingStages } from '../lab/host/prepare.ts';
import { QemuProcess } from '../lab/host/qemu-process.ts';
import type { LabKernel } from '../lab/kernel/kernel.ts';
import { KERNELS } from '../lab/kernel/named.ts';
import { labExec } from '../lab/runs/exec.ts';
import type { BenchResult } from './result.ts';

/** The boots alternate, so that other load slows both alike. The fastest of each counts. */
const ROUNDS = 3;
const MARK = 'barter: the first process runs';
/** The command may start this many times as late as the bare kernel's first process. */
const MOST = 1.3;

export async function benchLab(): Promise<BenchResult[]> {
  const ready = KERNELS.filter((kernel) => kernel.base !== 'debug' && missingStages(kernel).length === 0);
  if (ready.length === 0) throw new Error('the lab is not prepared: barter lab prepare');
  const results: BenchResult[] = [];
  for (const kernel of ready) {
    const bare: number[] = [];
    const exec: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      bare.push(await bareMs(kernel));
      exec.push(await execMs(kernel));
    }
    const [value, reference] = [exec, bare].map((times) => Math.round(Math.min(...times)));
    const name = `lab: from QEMU's start to the command, ${kernel.name}`;
    results.push({ name, value, unit: 'ms', reference, ratio: value / reference, most: MOST });
  }
  return results;
}

/** From QEMU's start to the first line of the first process. */
async function bareMs(kernel: LabKernel): Promise<number> {
  const startedMs = performance.now();
  let reachedMs = 0;
  let output = '';
  const onOutput = (part: Buffer): void => {
    output += part.toString('latin1');
    if (reachedMs === 0 && output.includes(MARK)) reachedMs = performance.now() - startedMs;
  };
  const prepare = (folder: string): string[] => {
    const initrd = join(folder, 'initrd.gz');
    writeBareImage(initrd, bareInit(MARK));
    const machine = machineArguments(initrd, { kernel, accel: 'tcg', devices: [] });
    return [...machine, ...HOST_FILES, ...portArguments(folder, ['stdin', 'stdout', 'stderr', 'control'])];
  };
  const qemu = await QemuProcess.start(prepare, { onOutput });
  await qemu.ended;
  await qemu.dispose();
  if (reachedMs === 0) throw new Error(`the kernel ${kernel.name} did not come to its first process`);
  return reachedMs;
}

async function execMs(kernel: LabKernel): Promise<number> {
  const { bootMs, fault } = await labExec({
    ...{ kernel, accel: 'tcg', devices: [], modules: [], shares: [], command: ['true'], qemuArgs: [], terminal: null },
    stdin: Readable.from([]),
    onStdout: () => {},
    onStderr: () => {},
  });
  if (bootMs === null) throw new Error(fault?.message ?? 'the command did not start');
  return bootMs;
}
