/**
 * A BAR lent across processes: how fast bytes move, how long a revoke takes, and how soon it returns after the importer
 * is killed.
 */
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImporterProcess } from '../src/demo/importer-process.ts';
import { BorrowingClient, LendingClient } from '../src/demo/lend.ts';
import { packageFile } from '../src/linux/package-file.ts';
import { loadMachine } from '../src/machine/load.ts';
import { type ServedMachine, serveMachine } from '../src/machine/served.ts';
import { latency, quietestLatency } from './latency.ts';
import type { BenchResult } from './result.ts';

const MACHINE = loadMachine(packageFile('examples/two-peers.yaml'));
const BYTES = 64 << 20;
const REVOKES = 100;
const WRITTEN_REVOKES = 30;
const KILLS = 5;
/** The copies alternate between both sides; the fastest of each side counts. */
const COPIES = 30;
/** The mapping is plain memory: lent memory is as fast as the process's own. */
const MOVE_BAR = 0.8;
/** The engine reaches another server's BAR as memory, and its own server's BAR through the fabric. */
const PEER_BAR = 0.8;
const REVOKE_MS = 1;
/** A revoke after 64 MiB were written costs little more than the importer's munmap of them. */
const UNMAP_BAR = 0.4;
const KILL_MS = 50;
const KILL_AFTER_MS = 50;

/** A served machine, with the paths of its sockets. */
class ServedPeers {
  readonly folder = mkdtempSync(join(tmpdir(), 'barter-bench-'));
  private served: ServedMachine | null = null;

  async start(): Promise<this> {
    this.served = await serveMachine(MACHINE, { socketDir: this.folder });
    return this;
  }

  path(device: string): string {
    return join(this.folder, `${device}.sock`);
  }

  async stop(): Promise<void> {
    await this.served?.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function benchDmaBuf(): Promise<BenchResult[]> {
  const [lending, borrowing] = [await new ServedPeers().start(), await new ServedPeers().start()];
  const lender = new LendingClient(lending.path('lender'), BYTES);
  try {
    const results = await benchProcess(lender);
    results.push(latency('dma-buf-kill', await kills(lender), KILL_MS));
    return [...results, benchServers(lender, lending, borrowing)];
  } finally {
    lender.close();
    await lending.stop();
    await borrowing.stop();
  }
}

/** An importer in another process: how fast it copies and how fast it answers. */
async function benchProcess(lender: LendingClient): Promise<BenchResult[]> {
  const buffer = lender.export();
  const importer = new ImporterProcess(buffer);
  try {
    await importer.next('mapped');
    importer.tell('copy');
    const { ms, memcpyMs } = await importer.next('copied');
    return [
      {
        name: 'dma-buf-move-64MiB',
        value: BYTES / 2 ** 30 / (ms / 1000),
        unit: 'GiB/s',
        reference: 'memcpy',
        ratio: memcpyMs / ms,
        bar: MOVE_BAR,
      },
      await benchRevokes(lender, importer),
      await benchWritten(lender, importer),
    ];
  } finally {
    await importer.end();
    buffer.close();
  }
}

/** The time to clear the memory bit: the importer is told, unmaps and replies before the write returns. */
async function benchRevokes(lender: LendingClient, importer: ImporterProcess): Promise<BenchResult> {
  return await quietestLatency('dma-buf-revoke', REVOKES, REVOKE_MS, async () => {
    const ms = lender.memory(false);
    lender.memory(true);
    await importer.next('mapped');
    return ms;
  });
}

/** The same after the importer wrote all pages. Most of the time goes to its munmap. */
async function benchWritten(lender: LendingClient, importer: ImporterProcess): Promise<BenchResult> {
  const times: { revoke: number; unmap: number }[] = [];
  for (let i = 0; i < WRITTEN_REVOKES; i++) {
    importer.tell('fill');
    await importer.next('filled');
    const revoke = lender.memory(false);
    times.push({ revoke, unmap: (await importer.next('revoked')).unmapMs });
    lender.memory(true);
    await importer.next('mapped');
  }
  const value = Math.min(...times.map(({ revoke }) => revoke));
  const unmap = Math.min(...times.map((each) => each.unmap));
  const reference = 'its munmap';
  return { name: 'dma-buf-revoke-written', value, unit: 'ms', reference, ratio: unmap / value, bar: UNMAP_BAR };
}

/** The time from an importer's SIGKILL to the return of the revoke that waits for it. */
async function kills(lender: LendingClient): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < KILLS; i++) {
    const buffer = lender.export();
    const importer = new ImporterProcess(buffer);
    await importer.next('mapped');
    importer.tell('fill');
    await importer.next('filled');
    importer.tell('hold');
    await importer.next('holding');
    const { killedAt, doneAt } = await importer.killAfter(KILL_AFTER_MS, () => lender.memory(false));
    times.push(doneAt - killedAt);
    lender.memory(true);
    await importer.end();
    buffer.close();
  }
  return times;
}

/** One server's engine copies into another server's BAR, against an engine and a BAR in one server. */
function benchServers(lender: LendingClient, lending: ServedPeers, borrowing: ServedPeers): BenchResult {
  const buffer = lender.export();
  const borrowers = [borrowing, lending].map((server) => {
    const borrower = new BorrowingClient(server.path('borrower'), BYTES);
    randomFillSync(borrower.memory.bytes);
    borrower.map(buffer);
    return borrower;
  });
  const fastest = borrowers.map(() => Number.POSITIVE_INFINITY);
  for (let i = 0; i < COPIES; i++) {
    for (const [which, borrower] of borrowers.entries()) {
      const began = performance.now();
      const status = borrower.copy();
      if (status !== 'ok') throw new Error(`the engine stopped: ${status}`);
      fastest[which] = Math.min(fastest[which], performance.now() - began);
    }
  }
  for (const borrower of borrowers) borrower.close();
  buffer.close();
  const [across, within] = fastest;
  return {
    name: 'dma-buf-peer-64MiB',
    value: BYTES / 2 ** 20 / (across / 1000),
    unit: 'MiB/s',
    reference: 'one server',
    ratio: within / across,
    bar: PEER_BAR,
  };
}
