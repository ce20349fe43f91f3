/**
 * A BAR that is lent to another process: the client of a served device exports it, a second process imports it by a
 * copy of the descriptor, and the device takes it back. With a borrower, the second process is another server, whose
 * DMA engine does the work.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { Errno } from '../abi/errno.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { ImporterProcess } from './importer-process.ts';
import { BorrowingClient, LendingClient } from './lend.ts';
import { median } from './median.ts';

const MAX_BYTES = 64 << 20;
/** The time after which an importer that does not answer is killed; the revoke waits for it until then. */
const KILL_AFTER_MS = 100;

export interface ImportStep {
  name: string;
  ok: boolean;
  ms: number;
  detail: string;
}

export interface ImportOptions {
  lender: string;
  /** The socket of a DMA engine, on another server or the same. */
  borrower?: string | undefined;
  revokes: number;
}

type NamedAction = [string, () => string | Promise<string>];

/** Takes the steps, and calls `onStep` as each ends. Stops at the first step that fails. */
export async function runImport(options: ImportOptions, onStep: (step: ImportStep) => void): Promise<ImportStep[]> {
  const steps: ImportStep[] = [];
  const borrowing = options.borrower === undefined ? new ByProcess(options) : new ByServer(options, options.borrower);
  try {
    for await (const [name, action] of borrowing.actions()) {
      const began = performance.now();
      const step: ImportStep = { name, ok: true, ms: 0, detail: '' };
      try {
        step.detail = await action();
      } catch (error) {
        step.ok = false;
        step.detail = (error as Error).message;
      }
      step.ms = Math.round((performance.now() - began) * 10) / 10;
      steps.push(step);
      onStep(step);
      if (!step.ok) break;
    }
  } finally {
    await borrowing.close();
  }
  return steps;
}

/** The lender's side, which both ways of borrowing share. */
abstract class Borrowing {
  protected readonly options: ImportOptions;
  protected lender!: LendingClient;
  protected buffer!: OwnedFd;
  private isLending = false;

  constructor(options: ImportOptions) {
    this.options = options;
  }

  abstract actions(): Iterable<NamedAction>;

  protected lend(): string {
    this.lender = new LendingClient(this.options.lender, MAX_BYTES);
    this.buffer = this.lender.export();
    this.isLending = true;
    return `${this.lender.sizeBytes >> 20} MiB of BAR 0 of ${this.options.lender}`;
  }

  /** Revokes `options.revokes` times; `again` makes the borrower map anew. */
  protected async revokes(again: () => void | Promise<void>): Promise<string> {
    const times: number[] = [];
    for (let i = 0; i < this.options.revokes; i++) {
      times.push(this.lender.memory(false));
      this.lender.memory(true);
      await again();
    }
    times.sort((a, b) => a - b);
    return `median ${median(times).toFixed(3)} ms, longest ${times[times.length - 1].toFixed(3)} ms`;
  }

  protected expectBytes(sha256: string): void {
    const arrived = this.lender.sha256();
    if (arrived !== sha256) throw new Errno('EIO', `sent ${sha256}, arrived ${arrived}`);
  }

  async close(): Promise<void> {
    if (!this.isLending) return;
    this.buffer.close();
    this.lender.close();
  }
}

class ByProcess extends Borrowing {
  private importer: ImporterProcess | null = null;

  *actions(): Iterable<NamedAction> {
    const { revokes } = this.options;
    yield ['lend', () => this.lend()];
    yield ['import in a second process', () => this.start()];
    yield ['move all of it', () => this.move()];
    yield [`revoke ${revokes} times`, () => this.revokes(async () => void (await this.importer!.next('mapped')))];
    yield ['kill -9 while a revoke waits', () => this.kill()];
  }

  private async start(): Promise<string> {
    this.importer = new ImporterProcess(this.buffer);
    const { bytes, exporter } = await this.importer.next('mapped');
    return `process ${this.importer.pid} mapped ${bytes >> 20} MiB of ${exporter}`;
  }

  private async move(): Promise<string> {
    this.importer!.tell('fill');
    const { sha256 } = await this.importer!.next('filled');
    this.expectBytes(sha256);
    return `sha256 ${sha256.slice(0, 16)} there and in the device`;
  }

  private async kill(): Promise<string> {
    const importer = this.importer!;
    importer.tell('hold');
    await importer.next('holding');
    const { killedAt, doneAt } = await importer.killAfter(KILL_AFTER_MS, () => this.lender.memory(false));
    if (doneAt < killedAt) throw new Errno('EIO', 'the revoke did not wait for the importer');
    this.lender.memory(true);
    return `the revoke returned ${(doneAt - killedAt).toFixed(2)} ms after the kill`;
  }

  override async close(): Promise<void> {
    await this.importer?.end();
    await super.close();
  }
}

class ByServer extends Borrowing {
  private readonly path: string;
  private borrower: BorrowingClient | null = null;

  constructor(options: ImportOptions, path: string) {
    super(options);
    this.path = path;
  }

  *actions(): Iterable<NamedAction> {
    yield ['lend', () => this.lend()];
    yield ['import in the second server', () => this.start()];
    yield ['move all of it by its DMA engine', () => this.move()];
    yield ['revoke: DMA faults', () => this.revoke()];
    yield [`revoke ${this.options.revokes} times`, () => this.revokes(() => this.mapAgain())];
  }

  private start(): string {
    this.borrower = new BorrowingClient(this.path, this.lender.sizeBytes);
    this.borrower.map(this.buffer);
    return `DMA_MAP at ${this.path}`;
  }

  private move(): string {
    const { memory } = this.borrower!;
    randomFillSync(memory.bytes);
    const began = performance.now();
    this.expectCopy('ok');
    const seconds = (performance.now() - began) / 1000;
    const sha256 = createHash('sha256').update(memory.bytes).digest('hex');
    this.expectBytes(sha256);
    const rate = memory.sizeBytes / (1 << 20) / seconds;
    return `${rate.toFixed(0)} MiB/s, sha256 ${sha256.slice(0, 16)} on both sides`;
  }

  private revoke(): string {
    const tookMs = this.lender.memory(false);
    this.expectCopy('write data error', 4096);
    this.lender.memory(true);
    this.expectCopy('write data error', 4096);
    this.mapAgain();
    this.expectCopy('ok', 4096);
    return `revoked in ${tookMs.toFixed(2)} ms; mapped again`;
  }

  private mapAgain(): void {
    this.borrower!.unmap();
    this.borrower!.map(this.buffer);
  }

  private expectCopy(wanted: string, length?: number): void {
    const status = this.borrower!.copy(length);
    if (status !== wanted) throw new Errno('EIO', `the copy ended with "${status}", not "${wanted}"`);
  }

  override async close(): Promise<void> {
    this.borrower?.close();
    await super.close();
  }
}
