/** The modules of a kernel: where each file is, and what must be loaded before it. */
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

  /** Of a folder such as lib/modules/RELEASE. */
  static installed(folder: string): KernelModules {
    const paths = readdirSync(folder, { recursive: true }).map((path) => join(folder, String(path)));
    return new KernelModules(folder, byName(paths));
  }

  /** Of a build tree: those that its modules.order lists. */
  static built(tree: string): KernelModules {
    const order = join(tree, 'modules.order');
    const lines = existsSync(order) ? readFileSync(order, 'utf8').trim().split('\n') : [];
    return new KernelModules(null, byName(lines.map((line) => join(tree, line.replace(/\.o$/, '.ko')))));
  }

  /** The file of a module; null where the kernel has none of that name, perhaps because it is built in. */
  find(module: string): string | null {
    return this.files.get(plainName(module)) ?? null;
  }

  /** The modules that are named, each behind those that it needs. Names without a file are left out. */
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

  /** A module's content, without its compression. CommandError where the kernel has no such module. */
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

  /** A module says itself which others it needs: `depends=` in its section .modinfo. */
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

/** Files are named with dashes or underscores as it comes; the kernel takes them for the same. */
function plainName(module: string): string {
  return module.replaceAll('-', '_');
}

function unpack(path: string): Buffer {
  if (path.endsWith('.ko')) return readFileSync(path);
  if (path.endsWith('.gz')) return zlib.gunzipSync(readFileSync(path));
  const [command, ...args] = rootProgram(path.endsWith('.xz') ? 'usr/bin/xz' : 'usr/bin/zstd');
  return execFileSync(command, [...args, '-dc', path], { maxBuffer: MAX_MODULE_BYTES });
}
