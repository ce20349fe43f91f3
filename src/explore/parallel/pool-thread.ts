/** A thread of a pool. It searches the parts that it receives, and sends back their results. */
import { parentPort, workerData } from 'node:worker_threads';
import { applyMutantOf, type Catalogue } from '../catalogue.ts';
import type { Part, Search } from '../search/search.ts';
import { makeSearch } from '../spec.ts';
import type { Program } from '../world/program.ts';
import { type PartDone, type PoolWorkerData, searchPart } from './search-part.ts';

/** The most time between two reports of a busy thread. */
const REPORT_MS = 5;

/**
 * A thread's parts, searched one after the other. The part that the main thread waits for comes first. Its result is
 * sent after one run, since the main thread has nothing else to do.
 */
class Work {
  private readonly search: Search;
  private readonly awaited: Int32Array;
  private readonly parts: Part[] = [];
  private isUnderWay = false;
  /** The part that was awaited at the last report. Unless it is in `parts` now, another thread has it. */
  private elsewhere = 0;

  constructor(program: Program, { spec, awaited }: PoolWorkerData) {
    this.search = makeSearch(program, spec);
    this.awaited = awaited;
  }

  async add(parts: readonly Part[]): Promise<void> {
    this.parts.push(...parts);
    if (this.isUnderWay) return;
    this.isUnderWay = true;
    let done: PartDone[] = [];
    let reported = performance.now();
    while (this.parts.length > 0) {
      const part = this.next();
      done.push(searchPart(this.search, part, () => this.isAwaited(part)));
      if (this.parts.length > 0 && performance.now() - reported < REPORT_MS && !this.isAwaited(part)) continue;
      const awaited = Atomics.load(this.awaited, 0);
      parentPort!.postMessage(done);
      reported = performance.now();
      done = [];
      // Lets new messages arrive.
      await new Promise((resolve) => setImmediate(resolve));
      this.elsewhere = awaited;
    }
    this.isUnderWay = false;
  }

  /**
   * Whether to stop `part` early: because it is awaited, another of this thread's parts is, or the awaited part
   * changed.
   */
  private isAwaited(part: Part): boolean {
    const awaited = Atomics.load(this.awaited, 0);
    if (awaited === 0) return false;
    return awaited !== this.elsewhere || awaited === part.id || this.parts.some(({ id }) => id === awaited);
  }

  private next(): Part {
    const awaited = Atomics.load(this.awaited, 0);
    const at = this.parts.findIndex(({ id }) => id === awaited);
    return this.parts.splice(Math.max(0, at), 1)[0];
  }
}

/**
 * Starts without a top-level await: a user's file that imports this package would wait for this module, and this module
 * for the file.
 */
async function main(data: PoolWorkerData): Promise<void> {
  const { catalogue } = (await import(data.catalogue)) as { catalogue: Catalogue };
  await catalogue.loadPrograms(data.spec.scenario);
  applyMutantOf(catalogue, data.spec);
  const work = new Work(catalogue.findProgram(data.spec.scenario), data);
  parentPort!.on('message', (parts: Part[]) => void work.add(parts));
  parentPort!.postMessage([]);
}

void main(workerData as PoolWorkerData);
