/**
 * What the lab takes from Debian's packages: a root that commands enter with chroot, QEMU and compilers in it, a kernel
 * with its modules, and the importer built against that kernel. The machine itself does not change.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { copyImporterTo } from '../kernel/importer.ts';
import { distributionHeaders } from '../kernel/named.ts';
import { labPath, NEWEST_SUITE, SUITE } from './cache.ts';
import { CommandError, output, run } from './command.ts';
import { buildInRoot, inRoot, installInRoot, runMounting } from './root.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
export const PACKAGES = [
  ...['qemu-system-x86', 'seabios', 'busybox-static', 'xz-utils', 'zstd', 'kmod', 'pciutils', 'cpio', 'gcc', 'make'],
  'patch',
];

/** Makes the root: the base system of the suite. */
export async function makeRoot(log: string): Promise<void> {
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

/** Installs the packages that every stage and guest needs. */
export async function installPackages(log: string): Promise<void> {
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
export async function fetchKernel(log: string): Promise<void> {
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
export async function buildImporter(log: string): Promise<void> {
  const root = labPath('root');
  const folder = join(root, 'tmp/importer');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyImporterTo(folder);
  await buildInRoot(log, `make -s -C /usr/src/${distributionHeaders()} M=/tmp/importer modules`);
  copyFileSync(join(folder, 'barter_importer.ko'), labPath('barter_importer.ko'));
}
