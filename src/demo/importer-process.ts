/** An importer in a separate process. It starts with a copy of the buffer's descriptor and obeys lines on its stdin. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Errno } from '../abi/errno.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { packageFile } from '../linux/package-file.ts';
import type { ImporterReport } from './importer-main.ts';

const BIN = packageFile('bin/barter.cjs');
/** The buffer's descriptor in the child. */
const CHILD_FD = 3;

type ReportOf<E extends ImporterReport['event']> = Extract<ImporterReport, { event: E }>;

export class ImporterProcess {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  /** The caller keeps its own descriptor. */
  constructor(buffer: OwnedFd) {
    this.child = spawn(process.execPath, [BIN, 'import', '--fd', String(CHILD_FD)], {
      stdio: ['pipe', 'pipe', 'inherit', buffer.fd],
    });
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.child.pid!;
  }

  tell(command: 'fill' | 'copy' | 'hold'): void {
    this.child.stdin!.write(`${command}\n`);
  }

  /** The next report of the kind; skips other reports before it. EIO when the process fails or ends. */
  async next<E extends ImporterReport['event']>(event: E): Promise<ReportOf<E>> {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done === true) throw new Errno('EIO', `the importer ended before it said ${event}`);
      const report = JSON.parse(value) as ImporterReport;
      if (report.event === 'failed') throw new Errno('EIO', `the importer: ${report.message}`);
      if (report.event === event) return report as ReportOf<E>;
    }
  }

  /**
   * Has another process send SIGKILL after `afterMs`, so the caller may block meanwhile. Resolves with the time just
   * before the signal, in this process's performance.now().
   */
  async killAfter(afterMs: number, meanwhile: () => void): Promise<{ killedAt: number; doneAt: number }> {
    const script = `sleep ${afterMs / 1000}; date +%s%N; kill -9 ${this.pid}`;
    const killer = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const said = once(killer.stdout!, 'data');
    meanwhile();
    const doneAt = performance.now();
    const nanoseconds = BigInt(String((await said)[0]).trim());
    return { killedAt: Number(nanoseconds / 1000n) / 1000 - performance.timeOrigin, doneAt };
  }

  /** Ends the process, which releases the buffer. Resolves with its exit status, or the signal that ended it. */
  async end(): Promise<number | string | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.stdin!.end();
      await once(this.child, 'exit');
    }
    return this.child.exitCode ?? this.child.signalCode;
  }
}
