/** The modules of a kernel: the file of each, and the modules to load before it. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import zlib from 'node:zlib';
import { CommandError } from '../host/command.ts';
import { rootProgram } from '../host/qemu.ts';

const MODULE_FILE = /^(.+)\.ko(\.(?:xz|gz|zst))?$/;
const MAX_MODULE_BYTES = 1 << 28;

export class KernelModules {
  /** The folder that modprobe knows as lib/modules/RELEASE; null for the modules of a build tree. */
  readonly folder: string | null;
  private readonly files: ReadonlyMap<string, string>;
  private readonly unpacked = new Map<string, Buffer>();

  private constructor(folder: string | null, files: ReadonlyMap<string, string>) {
    this.folder = folder;
    this.files = files;
  }

  /** The modules in a folder such as lib/modules/RELEASE. */
  static installed(folder: string): KernelModules {
    const paths = readdirSync(folder, { recursive: true }).map((path) => join(folder, String(path)));
    return new KernelModules(folder, byName(paths));
  }

  /** The modules of a build tree, from its modules.order. */
  static built(tree: string): KernelModules {
    const order = join(tree, 'modules.order');
    const lines = existsSync(order) ? readFileSync(order, 'utf8').trim().split('\n') : [];
    return new KernelModules(null, byName(lines.map((line) => join(tree, line.replace(/\.o$/, '.ko')))));
  }

  /** The file of a module; null if the kernel has no such file, perhaps because the module is built in. */
  find(module: string): string | null {
    return this.files.get(plainName(module)) ?? null;
  }

  /** The named modules, each after those that it needs. Leaves out names without a file. */
  inOrder(modules: readonly string[]): string[] {
    const order = new Set<string>();
    const visit = (module: string): void => {
      const name = plainName(module);
      if (order.has(name) || !this.files.has(name)) return;
      for (const needed of this.needs(name)) visit(needed);
      order.add(name);
    };
    for (const module of modules) visit(module);
    return [...order];
  }

  /** A module's content, decompressed. Throws CommandError if the kernel has no such module. */
  read(module: string): Buffer {
    const name = plainName(module);
    const path = this.files.get(name);
    if (path === undefined) throw new CommandError(`the kernel has no module ${module}`);
    let content = this.unpacked.get(name);
    if (content === undefined) {
      content = unpack(path);
      this.unpacked.set(name, content);
    }
    return content;
  }

  /** The modules that a module needs: `depends=` in its section .modinfo. */
  private needs(module: string): string[] {
    const list = /\0depends=([^\0]*)\0/.exec(this.read(module).toString('latin1'))?.[1] ?? '';
    return list === '' ? [] : list.split(',');
  }
}

function byName(paths: readonly string[]): Map<string, string> {
  const files = new Map<string, string>();
  for (const path of paths) {
    const name = MODULE_FILE.exec(basename(path))?.[1];
    if (name !== undefined) files.set(plainName(name), path);
  }
  return files;
}

/** Makes names comparable: files are named with dashes or underscores, and the kernel treats both the same. */
function plainName(module: string): string {
  return module.replaceAll('-', '_');
}

function unpack(path: string): Buffer {
  if (path.endsWith('.ko')) return readFileSync(path);
  if (path.endsWith('.gz')) return zlib.gunzipSync(readFileSync(path));
  const [command, ...args] = rootProgram(path.endsWith('.xz') ? 'usr/bin/xz' : 'usr/bin/zstd');
  return execFileSync(command, [...args, '-dc', path], { maxBuffer: MAX_MODULE_BYTES });
}
