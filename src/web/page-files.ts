/** The files of the page: those beside this code, and libraries that the build copies. */
import { readdirSync, readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { packageFile } from '../linux/package-file.ts';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
  /** A Content-Security-Policy of its own. */
  readonly policy?: string;
}

/** Paths of the address, each with the folder of the package that has its files. */
const FOLDERS = { '/': 'src/web/page', '/vendor/': 'dist/vendor' };

let files: ReadonlyMap<string, PageFile> | null = null;

/** The files by their path in the address. They are read once, so a request cannot name any other file. */
export function pageFiles(): ReadonlyMap<string, PageFile> {
  files ??= readFiles();
  return files;
}

function readFiles(): Map<string, PageFile> {
  const found = new Map<string, PageFile>();
  for (const [prefix, folder] of Object.entries(FOLDERS)) {
    for (const name of readdirSync(packageFile(folder))) {
      const type = TYPES[extname(name)];
      if (type !== undefined)
        found.set(`${prefix}${name}`, { type, bytes: readFileSync(packageFile(`${folder}/${name}`)) });
    }
  }
  return found;
}
