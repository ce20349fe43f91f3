/**
 * Makes the lab's parts from the distribution's packages: QEMU, a kernel with its modules, the tools that build the
 * importer, and on request the lab's own kernels. Everything is in one folder that commands enter with chroot; the
 * machine itself does not change. A complete stage gets a stamp. An interrupted stage is made again.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { BUILD_PACKAGES, buildKernel, kernelKey, unpackKernelSource } from '../kernel/build.ts';
import { copyImporterTo, importerKey } from '../kernel/importer.ts';
import type { BuiltKernel, KernelName, LabKernel } from '../kernel/kernel.ts';
import { buildOutsideImporter } from '../kernel/module-build.ts';
import { DISTRIBUTION, distributionHeaders } from '../kernel/named.ts';
import { buildSelftests, selftestsKey } from '../kernel/selftests-build.ts';
import { isStamped, labPath, lockCache, NEWEST_SUITE, SUITE, stamp, unstamp } from './cache.ts';
import { CommandError, output, run } from './command.ts';
import { buildInRoot, inRoot, installInRoot, runMounting } from './root.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const PACKAGES = [
  ...['qemu-system-x86', 'seabios', 'busybox-static', 'xz-utils', 'zstd', 'kmod', 'pciutils', 'cpio', 'gcc', 'make'],
  'patch',
];

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
export type StageName = 'selftests';

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

async function makeRoot(log: string): Promise<void> {
  const root = labPath('root');
  rmSync(root, { recursive: true, force: true });
  const { command, scripts } = await findDebootstrap(log);
  const mirror = await findMirror();
  const signed = existsSync(KEYRING) ? [`--keyring=${KEYRING}`] : [];
  const env = scripts === null ? [] : [`DEBOOTSTRAP_DIR=${scripts}`];
  await runMounting(log, 'env', [...env, command, '--variant=minbase', ...signed, SUITE, root, mirror]);
  const lines = [...new Set([SUITE, NEWEST_SUITE])].map((suite) => `deb ${mirror} ${suite} main\n`);
  writeFileSync(join(root, 'etc/apt/sources.list'), lines.join(''));
}

/** The machine's debootstrap, if it has a script for the suite; otherwise one that is unpacked beside the lab. */
async function findDebootstrap(log: string): Promise<{ command: string; scripts: string | null }> {
  const installed = '/usr/sbin/debootstrap';
  if (existsSync(installed) && existsSync(`/usr/share/debootstrap/scripts/${SUITE}`)) {
    return { command: installed, scripts: null };
  }
  const folder = labPath('debootstrap');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  try {
    await run(log, 'apt-get', ['download', '-q', 'debootstrap'], folder);
  } catch {
    // Without package lists apt finds no package.
    await run(log, 'apt-get', ['update', '-q']);
    await run(log, 'apt-get', ['download', '-q', 'debootstrap'], folder);
  }
  const deb = readdirSync(folder).find((file) => file.endsWith('.deb'));
  if (deb === undefined) throw new CommandError('apt-get download debootstrap brought no package');
  await run(log, 'dpkg', ['-x', join(folder, deb), folder]);
  const scripts = join(folder, 'usr/share/debootstrap');
  // debootstrap's scripts for successive releases are links to the same script.
  if (!existsSync(join(scripts, 'scripts', SUITE))) symlinkSync('sid', join(scripts, 'scripts', SUITE));
  return { command: join(folder, 'usr/sbin/debootstrap'), scripts };
}

/** The mirror from which the machine's own apt gets its packages. */
async function findMirror(): Promise<string> {
  const { BARTER_MIRROR: named } = process.env;
  if (named !== undefined && named !== '') return named;
  const targets = await output('apt-get', ['indextargets', '--format', '$(SITE) $(RELEASE)', 'Created-By: Packages']);
  if (targets === null) {
    throw new CommandError(
      'the lab is made of Debian packages, and this machine has no apt: set BARTER_MIRROR to a mirror',
    );
  }
  const sites = targets.split('\n').map((line) => line.split(' '));
  const main = sites.find(
    ([site, release]) => release !== undefined && !/security|updates|backports/.test(site + release),
  );
  if (main === undefined || !/debian/.test(main[0])) {
    throw new CommandError("apt's sources name no Debian mirror: set BARTER_MIRROR to one");
  }
  return main[0];
}

async function installPackages(log: string): Promise<void> {
  const root = labPath('root');
  for (const file of ['/etc/resolv.conf', '/etc/hosts']) if (existsSync(file)) copyFileSync(file, join(root, file));
  await copyFetchSettings(root);
  await inRoot(log, 'apt-get', 'update', '-q');
  await installInRoot(log, ...PACKAGES);
  await inRoot(log, 'apt-get', 'clean');
}

/**
 * The settings that the machine's apt needs to reach its mirror. The root needs them too: a frozen mirror looks stale.
 */
const FETCH_SETTINGS = ['Acquire::http::Proxy', 'Acquire::https::Proxy', 'Acquire::Check-Valid-Until'];

async function copyFetchSettings(root: string): Promise<void> {
  const config = await output('apt-config', ['dump', '--format', '%f "%v";%n', ...FETCH_SETTINGS]);
  if (config !== null) writeFileSync(join(root, 'etc/apt/apt.conf.d/99machine'), config);
}

/** Fetches the newest kernel of the backports and the headers of the same version, unpacked but not installed. */
async function fetchKernel(log: string): Promise<void> {
  const root = labPath('root');
  const target = labPath('kernel');
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  await installInRoot(log, 'linux-headers-amd64');
  await inRoot(log, 'apt-get', 'clean');
  await installInRoot(log, '--download-only', 'linux-image-amd64');
  const archives = join(root, 'var/cache/apt/archives');
  const packages = readdirSync(archives).filter((file) => /^linux-(image|binary|modules|base)/.test(file));
  if (packages.length === 0) throw new CommandError(`${NEWEST_SUITE} brought no linux-image`);
  for (const file of packages) await run(log, 'dpkg', ['-x', join(archives, file), target]);
  await inRoot(log, 'apt-get', 'clean');
  await run(log, 'sh', [
    '-c',
    `test -d ${join(target, 'usr/lib/modules')} || mv ${target}/lib/modules ${target}/usr/lib/`,
  ]);
}

/** Builds the importer in the root, against the headers there, and copies the module into the cache. */
async function buildImporter(log: string): Promise<void> {
  const root = labPath('root');
  const folder = join(root, 'tmp/importer');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyImporterTo(folder);
  await buildInRoot(log, `make -s -C /usr/src/${distributionHeaders()} M=/tmp/importer modules`);
  copyFileSync(join(folder, 'barter_importer.ko'), labPath('barter_importer.ko'));
}
