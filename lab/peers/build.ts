/**
 * Builds vfio-user servers of others: QEMU's, and libvfio-user's samples. Debian's QEMU does not have the server, but its
 * source package does, and has libvfio-user in subprojects/.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { labPath, SUITE } from '../host/cache.ts';
import { CommandError } from '../host/command.ts';
import { buildInRoot, inRoot, installInRoot } from '../host/root.ts';
import {
  FOREIGN_CLIENT,
  FOREIGN_SERVERS,
  foreignClientScript,
  foreignPath,
  foreignServerScript,
  LIBRARY,
  SOURCE,
} from './peers.ts';

const PACKAGES = [
  ...['meson', 'ninja-build', 'pkg-config', 'python3-venv', 'flex', 'bison', 'g++', 'dpkg-dev'],
  ...['libjson-c-dev', 'libcmocka-dev', 'libglib2.0-dev', 'zlib1g-dev'],
];

/** The server alone: no user interface, no network, no firmware. Newer compilers warn about its calls of calloc. */
const OPTIONS = [
  ...['--target-list=x86_64-softmmu', '--without-default-features', '--enable-system', '--disable-user'],
  ...[
    '--enable-tcg',
    '--enable-kvm',
    '--enable-multiprocess',
    '--enable-vfio-user-server',
    '--disable-docs',
    '--disable-download',
  ],
  ...['--disable-install-blobs', '--disable-werror', '--extra-cflags=-Wno-calloc-transposed-args'],
];

/** QEMU's own build makes the samples of the library too. */
const TARGETS = FOREIGN_SERVERS.map(({ program }) => relative(`${SOURCE}/build`, program));

export function peersKey(): string {
  return [SUITE, ...PACKAGES, ...OPTIONS].join(' ');
}

/** Fetches, unpacks and builds. The archive of an earlier run is kept. */
export async function buildPeers(log: string): Promise<void> {
  await installInRoot(log, ...PACKAGES);
  await fetchSource(log);
  const jobs = availableParallelism();
  await buildInRoot(
    log,
    `sh -c 'cd /${SOURCE}/build && ../configure ${OPTIONS.join(' ')} && ninja -j${jobs} ${[...new Set(TARGETS)].join(' ')}'`,
  );
}

async function fetchSource(log: string): Promise<void> {
  const lists = labPath('root', 'etc/apt');
  const binary = readFileSync(join(lists, 'sources.list'), 'utf8').split('\n');
  const line = binary.find((each) => each.split(' ')[2] === SUITE);
  if (line === undefined) throw new CommandError(`${lists}/sources.list does not name ${SUITE}: barter lab clean`);
  writeFileSync(join(lists, 'sources.list.d/peers.list'), `${line.replace(/^deb /, 'deb-src ')}\n`);
  await inRoot(log, 'apt-get', 'update', '-q');
  const tree = labPath('root', SOURCE);
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  // QEMU 11 has no server any more, so the backports are of no use here.
  await inRoot(log, 'sh', '-c', `cd /${SOURCE}/.. && apt-get source -q --download-only qemu/${SUITE}`);
  const newest = `$(ls -v /${SOURCE}/../qemu_*.orig.tar.xz | tail -1)`;
  await inRoot(log, 'sh', '-c', `tar -xJf "${newest}" -C /${SOURCE} --strip-components=1`);
  if (!existsSync(labPath('root', LIBRARY, 'meson.build'))) {
    throw new CommandError(`the source package of QEMU in ${SUITE} does not have subprojects/libvfio-user`);
  }
  // Debian's archive is without the firmware that this file installs.
  writeFileSync(join(tree, 'pc-bios/meson.build'), 'roms = []\n');
  mkdirSync(join(tree, 'build'));
}

/** Writes one program for each server, and one for the client. */
export function writePeerPrograms(): void {
  mkdirSync(labPath('peers'), { recursive: true });
  for (const server of FOREIGN_SERVERS) {
    writeFileSync(foreignPath(server), foreignServerScript(server), { mode: 0o755 });
  }
  writeFileSync(foreignPath(FOREIGN_CLIENT), foreignClientScript(), { mode: 0o755 });
}
