/**
 * The stages of the lab's preparation: a root with QEMU and compilers, a kernel with its modules, the importer, and on
 * request the lab's own kernels. A complete stage gets a stamp. An interrupted stage is made again.
 */
import { availableParallelism } from 'node:os';
import { BUILD_PACKAGES, buildKernel, kernelKey, unpackKernelSource } from '../kernel/build.ts';
import { importerKey } from '../kernel/importer.ts';
import type { BuiltKernel, KernelName, LabKernel } from '../kernel/kernel.ts';
import { buildOutsideImporter } from '../kernel/module-build.ts';
import { DISTRIBUTION } from '../kernel/named.ts';
import { buildSelftests, selftestsKey } from '../kernel/selftests-build.ts';
import { buildPeers, peersKey } from '../peers/build.ts';
import { isStamped, labPath, lockCache, SUITE, stamp, unstamp } from './cache.ts';
import { CommandError } from './command.ts';
import { buildImporter, fetchKernel, installPackages, makeRoot, PACKAGES } from './distribution.ts';

/** Receives the progress of the preparation. */
export interface PrepareProgress {
  /** A stage begins that usually takes about `usualSeconds`; 0 if it exists already. */
  begin(stage: string, what: string, usualSeconds: number): void;
  end(stage: string, cached: boolean): void;
  /** Another process prepares the same cache. This one continues when that one ends. */
  wait(pid: string): void;
}

interface PrepareStage {
  name: string;
  what: string;
  /** On two cores and a near mirror. */
  usualSeconds: number;
  /** The inputs of the stage. Another key makes the stage again. */
  key: () => string;
  /** The stage whose result is this one's input. Making that one again makes this one again. */
  from: string | null;
  /** The lab's kernels that need it; by default every guest needs it. */
  kernels?: readonly KernelName[];
  make: (log: string) => Promise<void>;
}

const OWN_KERNELS: readonly KernelName[] = ['distribution', 'iommufd', 'debug'];

/** Stages that no kernel needs, but some commands do. */
export type StageName = 'selftests' | 'peers';

/** The stages in the order in which they are made. */
const STAGES: PrepareStage[] = [
  { name: 'root', what: `base system of ${SUITE}`, usualSeconds: 30, key: () => SUITE, from: null, make: makeRoot },
  {
    name: 'packages',
    from: 'root',
    what: 'QEMU, busybox, compiler',
    usualSeconds: 30,
    key: () => PACKAGES.join(' '),
    make: installPackages,
  },
  {
    name: 'kernel',
    from: 'root',
    kernels: OWN_KERNELS,
    what: 'kernel, modules, headers',
    usualSeconds: 20,
    key: () => 'linux-image-amd64',
    make: fetchKernel,
  },
  {
    name: 'importer',
    from: 'kernel',
    kernels: OWN_KERNELS,
    what: 'importer module',
    usualSeconds: 5,
    key: importerKey,
    make: buildImporter,
  },
  {
    name: 'source',
    from: 'kernel',
    kernels: ['iommufd', 'debug'],
    what: "the kernel's source, and what builds it",
    usualSeconds: 60,
    key: () => `linux-source ${BUILD_PACKAGES.join(' ')}`,
    make: unpackKernelSource,
  },
  kernelStage('iommufd', 330),
  kernelStage('debug', 480),
  {
    name: 'selftests',
    from: 'source',
    kernels: [],
    what: "the kernel's own tests of vfio",
    usualSeconds: 30,
    key: selftestsKey,
    make: buildSelftests,
  },
  {
    name: 'peers',
    from: 'root',
    kernels: [],
    what: 'vfio-user servers of others, from the source of QEMU',
    usualSeconds: Math.ceil((480 * 2) / availableParallelism()),
    key: peersKey,
    make: buildPeers,
  },
];

function kernelStage(kernel: BuiltKernel, usualSeconds: number): PrepareStage {
  return {
    name: `kernel-${kernel}`,
    from: 'source',
    kernels: [kernel],
    what: `a kernel of our own, built from source`,
    // Measured on two cores, and divided by the cores of this machine.
    usualSeconds: Math.ceil((usualSeconds * 2) / availableParallelism()),
    key: () => kernelKey(kernel),
    make: (log) => buildKernel(log, kernel),
  };
}

/** The stages that a kernel needs. */
function stagesFor({ base }: LabKernel, also: readonly StageName[]): PrepareStage[] {
  const wanted = (stage: PrepareStage): boolean =>
    stage.kernels === undefined || (base !== null && stage.kernels.includes(base));
  const named = STAGES.filter((stage) => wanted(stage) || also.some((name) => name === stage.name));
  const sources = new Set(named.map(({ from }) => from));
  return STAGES.filter((stage) => named.includes(stage) || sources.has(stage.name));
}

/** Prepares each missing part. Throws CommandError with the failure and the next step. */
export async function prepareLab(
  progress: PrepareProgress,
  kernel: LabKernel = DISTRIBUTION,
  also: readonly StageName[] = [],
): Promise<void> {
  const release = await lockCache((pid) => progress.wait(pid));
  try {
    const log = labPath('prepare.log');
    for (const { name, what, usualSeconds, key, make } of stagesFor(kernel, also)) {
      const cached = isStamped(name, key());
      progress.begin(name, what, cached ? 0 : usualSeconds);
      if (!cached) {
        demandMachine();
        unstampWithDependents(name);
        await make(log);
        stamp(name, key());
      }
      progress.end(name, cached);
    }
    await buildOutsideImporter(log, kernel);
  } finally {
    release();
  }
}

/** Unstamps a stage and, for all kernels, every stage that is made from it. */
function unstampWithDependents(name: string): void {
  unstamp(name);
  for (const stage of STAGES) if (stage.from === name) unstampWithDependents(stage.name);
}

/** Checks the needs of all stages before the first one begins. */
function demandMachine(): void {
  if (process.arch !== 'x64') throw new CommandError(`the lab is for x86-64 machines; this one is ${process.arch}`);
  if (process.getuid?.() !== 0) {
    throw new CommandError('preparing the lab needs root, for debootstrap and chroot: sudo -E npx barter lab prepare');
  }
}

/** The names of the stages that a kernel still lacks. */
export function missingStages(kernel: LabKernel = DISTRIBUTION, also: readonly StageName[] = []): string[] {
  return stagesFor(kernel, also)
    .filter((stage) => !isStamped(stage.name, stage.key()))
    .map((stage) => stage.name);
}
