/** The server that a soak watches, in a process of its own, as users run it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ROOT } from '../cli/barter.ts';

const MACHINE = fileURLToPath(new URL('./machine.yaml', import.meta.url));
const LEAK = new URL('./leak.mjs', import.meta.url).href;
/** How long the server gives an importer that does not answer. Many revokes run into it. */
const IMPORTER_TIMEOUT_MS = 500;
const MAX_STOP_MS = 30_000;

/** Lines of a server that is right: clients and importers that broke a rule or time, and counts of such lines. */
const USUAL_LINES = [
  /^barter: ([\w-]+: )?(client|importer) dropped: .*E[A-Z0-9]+: /,
  /^barter: process \d+ of user \d+ keeps /,
  /more lines in \d+ s/,
];

export class SoakServer {
  readonly socketDir: string;
  readonly pid: number;
  /** Lines of the log that no client can bring about. */
  readonly complaints: string[] = [];
  logLines = 0;
  private readonly child: ChildProcess;
  private readonly ended: Promise<unknown[]>;

  private constructor(child: ChildProcess, socketDir: string) {
    this.child = child;
    this.pid = child.pid!;
    this.socketDir = socketDir;
    this.ended = once(child, 'exit');
    createInterface({ input: child.stderr! }).on('line', (line) => {
      this.logLines += 1;
      if (!USUAL_LINES.some((usual) => usual.test(line))) this.complaints.push(line);
    });
  }

  /** `leaks`: quantities that the server is made to leak. */
  static async start(socketDir: string, leaks: readonly string[]): Promise<SoakServer> {
    const args = ['serve', MACHINE, '--socket-dir', socketDir, '--importer-timeout', String(IMPORTER_TIMEOUT_MS)];
    const canary = {
      NODE_OPTIONS: `--import=${LEAK}`,
      BARTER_SOAK_LEAK: leaks.join(','),
    };
    const child = spawn(process.execPath, ['bin/barter.cjs', ...args], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...(leaks.length > 0 ? canary : {}) },
    });
    const server = new SoakServer(child, socketDir);
    for await (const line of createInterface({ input: child.stdout! })) {
      if (line.startsWith('ready: ')) return server;
    }
    throw new Error(`the server did not start: ${server.complaints.join('\n')}`);
  }

  get isAlive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Ends the server in good order; returns its status, or SIGKILL when it does not end. */
  async stop(): Promise<unknown> {
    if (this.isAlive) this.child.kill('SIGTERM');
    const late = setTimeout(() => this.kill(), MAX_STOP_MS);
    const [status, signal] = await this.ended;
    clearTimeout(late);
    return status ?? signal;
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}
