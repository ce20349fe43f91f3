/** The guest's first file system: busybox, the modules that it needs, and a script as its first process. */
import { readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { LabKernel } from '../kernel/kernel.ts';
import { busyboxApplets, busyboxPath } from './busybox.ts';
import { CommandError } from './command.ts';
import { CpioArchive } from './cpio.ts';
import { DEV_FOLDERS, DEV_LINKS, FIRST_MOUNTS, HOST_MOUNTS } from './init.ts';

/** Each is loaded if the kernel has it as a module. */
const MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'vfio_iommu_type1', 'iommufd', 'vfio-pci'];
const FOLDERS = ['bin', 'lib', 'dev', 'proc', 'sys', 'host'];

/** Makes the first process's script from the names of the modules in /lib, in load order. */
export type InitScript = (modules: readonly string[]) => string;

/** Writes the compressed archive to `target`. `more` are kernel modules besides those of every guest. */
export function writeGuestImage(target: string, kernel: LabKernel, more: readonly string[], init: InitScript): void {
  const archive = new CpioArchive();
  for (const folder of FOLDERS) archive.folder(folder);
  archive.file('bin/busybox', readFileSync(busyboxPath()));
  for (const applet of busyboxApplets()) archive.link(`bin/${applet}`, 'busybox');
  const modules = kernelModules(kernel, more);
  for (const { name, content } of modules) archive.file(`lib/${name}`, content);
  archive.file('first.fstab', FIRST_MOUNTS);
  archive.file('host.fstab', HOST_MOUNTS);
  archive.folder('dev.more');
  for (const folder of DEV_FOLDERS) archive.folder(`dev.more/${folder}`);
  for (const [link, target] of DEV_LINKS) archive.link(`dev.more/${link}`, target);
  archive.file('init', init(modules.map(({ name }) => name)));
  writeFileSync(target, gzipSync(archive.end(), { level: 1 }));
}

/** Writes an archive without modules. Its first process prints a line on the console and powers off. */
export function writeBareImage(target: string, init: string): void {
  const archive = new CpioArchive();
  for (const folder of FOLDERS) archive.folder(folder);
  archive.file('bin/busybox', readFileSync(busyboxPath()));
  archive.file('init', init);
  writeFileSync(target, gzipSync(archive.end(), { level: 1 }));
}

function kernelModules(kernel: LabKernel, more: readonly string[]): { name: string; content: Buffer }[] {
  const modules = kernel.modules();
  if (modules === null) return [];
  const absent = more.find((module) => kernel.base === 'distribution' && modules.find(module) === null);
  if (absent !== undefined) throw new CommandError(`the kernel of the lab has no module ${absent}`);
  const files = modules
    .inOrder([...MODULES, ...more])
    .map((module) => ({ name: `${module}.ko`, content: modules.read(module) }));
  const importer = kernel.importer();
  if (importer !== null) files.push({ name: 'barter_importer.ko', content: readFileSync(importer) });
  return files;
}
