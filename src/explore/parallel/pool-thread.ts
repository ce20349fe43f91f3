/** A thread of a pool: goes through the parts of a search that it is sent, and says what came of them. */
import { parentPort, workerData } from 'node:worker_threads';
import { applyMutantOf, type Catalogue } from '../catalogue.ts';
import type { Part, Search } from '../search/search.ts';
import { makeSearch } from '../spec.ts';
import type { Program } from '../world/program.ts';
import { type PartDone, type PoolWorkerData, searchPart } from './search-part.ts';

/** So often at least a thread says what it has. */
const REPORT_MS = 5;

/**
 * The parts of a thread, one after the other. The one that is waited for comes first, and is handed back after a run:
 * who waits has nothing else to do.
 */
class Work {
  private readonly search: Search;
  private readonly awaited: Int32Array;
  private readonly parts: Part[] = [];
  private isUnderWay = false;
  /** Waited for when everything done was last handed back: unless it is among the parts now, it is another thread's. */
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
      // More may have come.
      await new Promise((resolve) => setImmediate(resolve));
      this.elsewhere = awaited;
    }
    this.isUnderWay = false;
  }

  /** Whether there is something to do that is more urgent than `part`: for it, for another, or to look what has come. */
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

/** No module waits for this: a file of users that imports this package would wait for the module in turn. */
async function main(data: PoolWorkerData): Promise<void> {
  const { catalogue } = (await import(data.catalogue)) as { catalogue: Catalogue };
  await catalogue.loadPrograms(data.spec.scenario);
  applyMutantOf(catalogue, data.spec);
  const work = new Work(catalogue.findProgram(data.spec.scenario), data);
  parentPort!.on('message', (parts: Part[]) => void work.add(parts));
  parentPort!.postMessage([]);
}

void main(workerData as PoolWorkerData);
