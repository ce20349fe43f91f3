/**
 * The order in which lock classes are taken, over all runs, as lockdep collects it: a cycle is a deadlock that some run
 * can have, though none that was seen did. Read-read edges count: with a writer in the queue of a fair rw-semaphore the
 * second reader waits.
 */
import { Lock } from '../../task/lock.ts';
import type { Op } from '../../task/op.ts';
import { OpKind } from '../../task/op.ts';

export interface LockEdge {
  from: string;
  to: string;
  /** Who took the second while holding the first, in which run's words. */
  witness: string;
}

/** What each task holds in one run. */
export class HeldLocks {
  private readonly held: Lock[][] = [];

  of(task: number): Lock[] {
    let list = this.held[task];
    if (list === undefined) {
      list = [];
      this.held[task] = list;
    }
    return list;
  }
}

export class LockOrder {
  private readonly edges = new Map<string, Map<string, LockEdge>>();

  /** A lock operation as it is about to be taken. Trylocks add no edge to what they take: they never wait. */
  before(held: HeldLocks, task: number, label: string, op: Op): void {
    if (op.kind !== OpKind.LOCK && op.kind !== OpKind.READ_LOCK) return;
    const lock = op.object;
    if (!(lock instanceof Lock)) return;
    for (const other of held.of(task)) {
      if (other.lockClass === lock.lockClass && other !== lock && lock.lockClass.nestable === true) continue;
      this.add(other.lockClass.name, lock.lockClass.name, `${label} takes ${lock.label} while it holds ${other.label}`);
    }
  }

  after(held: HeldLocks, task: number, op: Op): void {
    if (!(op.object instanceof Lock)) return;
    const list = held.of(task);
    if (op.kind === OpKind.UNLOCK || op.kind === OpKind.READ_UNLOCK) {
      const at = list.lastIndexOf(op.object);
      if (at >= 0) list.splice(at, 1);
    } else if (op.changed) list.push(op.object);
  }

  /** Forgets everything. */
  clear(): void {
    this.edges.clear();
  }

  /** The shortest cycle of classes, as a sentence with its witnesses; null where there is none. */
  cycle(): string | null {
    let best: LockEdge[] | null = null;
    for (const start of this.edges.keys()) {
      const found = this.shortestBack(start);
      if (found !== null && (best === null || found.length < best.length)) best = found;
    }
    if (best === null) return null;
    const names = [best[0].from, ...best.map((edge) => edge.to)].join(' > ');
    return `lock order has a cycle: ${names} (${best.map((edge) => edge.witness).join('; ')})`;
  }

  /** Adds what another search over the same program has seen. */
  merge(edges: readonly LockEdge[]): void {
    for (const { from, to, witness } of edges) this.add(from, to, witness);
  }

  list(): LockEdge[] {
    return [...this.edges.values()].flatMap((targets) => [...targets.values()]);
  }

  private add(from: string, to: string, witness: string): void {
    let targets = this.edges.get(from);
    if (targets === undefined) {
      targets = new Map();
      this.edges.set(from, targets);
    }
    if (!targets.has(to)) targets.set(to, { from, to, witness });
  }

  private shortestBack(start: string): LockEdge[] | null {
    const queue: { at: string; path: LockEdge[] }[] = [{ at: start, path: [] }];
    const seen = new Set<string>();
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      for (const edge of this.edges.get(next.at)?.values() ?? []) {
        const path = [...next.path, edge];
        if (edge.to === start) return path;
        if (seen.has(edge.to)) continue;
        seen.add(edge.to);
        queue.push({ at: edge.to, path });
      }
    }
    return null;
  }
}
