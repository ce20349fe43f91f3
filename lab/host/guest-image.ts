/**
 * The guest's first file system: busybox, the modules that it needs, and the way to Node on the machine's own files.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { distributionRelease } from '../kernel/kernels.ts';
import { labPath } from './cache.ts';
import { CommandError } from './command.ts';
import { rootProgram } from './qemu.ts';

/** In the order in which they are loaded. virtio-pci and virtio-console are built in. */
const MODULES = [
  'netfs',
  '9pnet',
  '9pnet_virtio',
  '9p',
  'irqbypass',
  'vfio',
  'vfio_iommu_type1',
  'vfio-pci-core',
  'vfio-pci',
];

/**
 * The machine's root is shared read-only, and Node runs in it as it is there. `agent` is the path of the program on
 * this machine; what it needs to write goes to memory.
 */
function initScript(node: string, agent: string, modules: readonly string[]): string {
  return `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
${modules.map((module) => `insmod /lib/${module} || echo "barter: ${module} does not load"`).join('\n')}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host
mount -t proc proc /host/proc
mount -t sysfs sys /host/sys
mount -t debugfs debug /host/sys/kernel/debug
mount -t devtmpfs dev /host/dev
mount -t tmpfs tmp /host/var/tmp
export TMPDIR=/var/tmp HOME=/var/tmp
chroot /host ${node} ${agent}
echo "barter: the agent ended with $?"
echo o > /proc/sysrq-trigger
sleep 5
`;
}

/** Writes the compressed cpio archive to `target`, with modules for a kernel that has them: the usual ones and `more`. */
export function writeGuestImage(target: string, agent: string, modular: boolean, more: readonly string[]): void {
  const stage = `${target}.d`;
  rmSync(stage, { recursive: true, force: true });
  for (const folder of ['bin', 'lib', 'dev', 'proc', 'sys', 'host', 'tmp'])
    mkdirSync(join(stage, folder), { recursive: true });
  try {
    const busybox = join(stage, 'bin/busybox');
    copyFileSync(labPath('root', 'usr/bin/busybox'), busybox);
    chmodSync(busybox, 0o755);
    const loaded = modular ? [...MODULES, ...more].map((module, i) => unpackModule(stage, module, i)) : [];
    if (modular) {
      copyFileSync(labPath('barter_importer.ko'), join(stage, 'lib/barter_importer.ko'));
      loaded.push('barter_importer.ko');
    }
    writeFileSync(join(stage, 'init'), initScript(process.execPath, agent, loaded), { mode: 0o755 });
    const list = readdirSync(stage, { recursive: true }).join('\n');
    const archive = execFileSync(busybox, ['cpio', '-o', '-H', 'newc'], {
      cwd: stage,
      input: `.\n${list}\n`,
      maxBuffer: 1 << 28,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    writeFileSync(target, gzipSync(archive, { level: 1 }));
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

/** Modules come compressed, and busybox does not load them so. Returns the file's name in lib/. */
function unpackModule(stage: string, module: string, order: number): string {
  const path = findModule(module);
  const name = `${String(order).padStart(2, '0')}-${module}.ko`;
  const [command, ...args] = rootProgram('usr/bin/xz');
  const plain = path.endsWith('.xz')
    ? execFileSync(command, [...args, '-dc', path], { maxBuffer: 1 << 28 })
    : execFileSync('cat', [path], { maxBuffer: 1 << 28 });
  writeFileSync(join(stage, 'lib', name), plain);
  return name;
}

let moduleFiles: string[] | null = null;

/** A module's file in the prepared kernel. */
function findModule(module: string): string {
  const folder = labPath('kernel', 'usr/lib/modules', distributionRelease());
  moduleFiles ??= readdirSync(folder, { recursive: true }).map(String);
  const file = moduleFiles.find((path) => /^(.*)\.ko(\.xz)?$/.exec(basename(path))?.[1] === module);
  if (file === undefined) throw new CommandError(`the kernel of the lab has no module ${module}`);
  return join(folder, file);
}
