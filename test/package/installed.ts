/** The package as npm makes it, installed into an empty folder, and ways to run it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** The user `nobody`, who cannot write root's files. */
const NOBODY = 65534;
const isRoot = process.getuid?.() === 0;

export interface RunOutput {
  status: number | null;
  stdout: string;
  stderr: string;
}

interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  input?: string;
  /** Runs as a user without root's rights if this process is root. */
  asNobody?: boolean;
}

export function run(command: string, args: readonly string[], options: RunOptions = {}): RunOutput {
  const { asNobody = false, ...rest } = options;
  const ids = asNobody && isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    ...rest,
    ...ids,
  });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

/** Runs a command that must succeed; returns its standard output. */
export function succeed(command: string, args: readonly string[], options: RunOptions = {}): string {
  const { status, stdout, stderr } = run(command, args, options);
  assert.equal(status, 0, `${command} ${args.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

const npm = (args: readonly string[], cwd: string) =>
  succeed('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline'], { cwd });

/** A folder with the package in its node_modules, which is read-only for everyone. */
export class Installed {
  /** Readable for everyone. Tests write here. */
  readonly folder: string;
  readonly tarball: string;
  /** The home and working directory of the unprivileged user. */
  readonly home: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'barter-package-'));
    chmodSync(this.folder, 0o755);
    const [name] = npm(['pack', '--silent', '--pack-destination', this.folder], ROOT).trim().split('\n').slice(-1);
    this.tarball = join(this.folder, name);
    writeFileSync(join(this.folder, 'package.json'), '{ "name": "user", "private": true, "type": "module" }\n');
    npm(['install', '--omit=dev', this.tarball], this.folder);
    this.home = join(this.folder, 'home');
    mkdirSync(this.home);
    if (isRoot) chownSync(this.home, NOBODY, NOBODY);
    makeReadOnly(join(this.folder, 'node_modules'));
  }

  get bin(): string {
    return join(this.folder, 'node_modules', 'barter', 'bin', 'barter.cjs');
  }

  /** Runs the command as the unprivileged user. */
  barter(args: readonly string[], node: string = process.execPath): RunOutput {
    return run(node, [this.bin, ...args], { cwd: this.home, env: this.env, asNobody: true });
  }

  get env(): NodeJS.ProcessEnv {
    return { PATH: process.env.PATH, HOME: this.home, TMPDIR: this.home };
  }

  /** Installs more packages beside it, as in a user's project. */
  add(...packages: string[]): void {
    npm(['install', '--no-save', ...packages], this.folder);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}

/** Makes a folder read-only, as a system-wide installation is. Root may still write. */
function makeReadOnly(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) makeReadOnly(path);
    else if (entry.isFile()) chmodSync(path, entry.name.endsWith('.node') || isBin(path) ? 0o555 : 0o444);
  }
  chmodSync(folder, 0o555);
}

const isBin = (path: string) => path.includes('/bin/');

/** Node of another major version, from npm's packages of Node; installed into `folder`. */
export function nodeOfVersion(major: number, folder: string): string {
  const name = `node-linux-${process.arch}`;
  const target = join(folder, `node-${major}`);
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, 'package.json'), '{ "private": true }\n');
  npm(['install', '--no-save', `${name}@${major}`], target);
  return join(target, 'node_modules', name, 'bin', 'node');
}
