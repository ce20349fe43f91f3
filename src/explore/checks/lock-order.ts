/**
 * The order in which lock classes are taken, over all runs, as lockdep collects it. A cycle is a deadlock that some run
 * can have, though none that was seen did. Read-read edges count: with a writer in the queue of a fair rw-semaphore the
 * second reader waits. Tasks that hold a lock in common cannot be in a cycle together: that lock is their gate.
 */
import { Lock } from '../../task/lock.ts';
import type { Op } from '../../task/op.ts';
import { OpKind } from '../../task/op.ts';
import { SERIALS_PER_TASK } from '../world/task-ids.ts';

export interface LockEdge {
  from: string;
  to: string;
  /** Who took the second while holding the first, in which run's words. */
  witness: string;
  /** The locks that the task held, `from` first (`nameOf`). */
  held: number[];
}

/** Ways of taking two classes in this order that are kept: more would say nothing new. */
const MAX_WAYS = 16;
/** Steps of the search for a cycle. */
const MAX_LOOKS = 20_000;

/** What each task holds in one run. */
export class HeldLocks {
  private readonly held: Holding[][] = [];

  of(task: number): Holding[] {
    let list = this.held[task];
    if (list === undefined) {
      list = [];
      this.held[task] = list;
    }
    return list;
  }
}

interface Holding {
  readonly lock: Lock;
  readonly isShared: boolean;
}

/** The same for a lock in every run and thread, and odd where it is held for reading. */
function nameOf({ lock, isShared }: Holding): number {
  return lock.serial < SERIALS_PER_TASK ? 2 * lock.serial + (isShared ? 1 : 0) : UNNAMED;
}

/** Locks that tasks make may have other numbers in other threads, so that they count as nobody's gate. */
const UNNAMED = -2;

export class LockOrder {
  /** The ways in which two classes were taken in this order, by both. */
  private readonly edges = new Map<string, Map<string, LockEdge[]>>();

  /** A lock operation as it is about to be taken. Trylocks add no edge to what they take: they never wait. */
  before(held: HeldLocks, task: number, label: string, op: Op): void {
    if (op.kind !== OpKind.LOCK && op.kind !== OpKind.READ_LOCK) return;
    const lock = op.object;
    if (!(lock instanceof Lock)) return;
    const list = held.of(task);
    for (const holding of list) {
      const other = holding.lock;
      if (other.lockClass === lock.lockClass && other !== lock && lock.lockClass.nestable === true) continue;
      const ways = this.edges.get(other.lockClass.name)?.get(lock.lockClass.name);
      if (ways?.some((way) => way.held.every((name) => list.some((one) => nameOf(one) === name)))) continue;
      this.add({
        from: other.lockClass.name,
        to: lock.lockClass.name,
        witness: `${label} takes ${lock.label} while it holds ${other.label}`,
        held: [holding, ...list.filter((one) => one !== holding)].map(nameOf),
      });
    }
  }

  after(held: HeldLocks, task: number, op: Op): void {
    if (!(op.object instanceof Lock)) return;
    const list = held.of(task);
    if (op.kind === OpKind.UNLOCK || op.kind === OpKind.READ_UNLOCK) {
      const at = list.findLastIndex(({ lock }) => lock === op.object);
      if (at >= 0) list.splice(at, 1);
    } else if (op.changed) {
      list.push({ lock: op.object, isShared: op.kind === OpKind.READ_LOCK || op.kind === OpKind.TRY_READ_LOCK });
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.edges.clear();
  }

  /**
   * The shortest cycle of classes, as a sentence with its witnesses; null where there is none. Two tasks that would
   * have to hold one lock at the same time, a gate, cannot be in a deadlock with each other.
   */
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
    for (const edge of edges) this.add(edge);
  }

  list(): LockEdge[] {
    return [...this.edges.values()].flatMap((targets) => [...targets.values()].flat());
  }

  private add(edge: LockEdge): void {
    let targets = this.edges.get(edge.from);
    if (targets === undefined) {
      targets = new Map();
      this.edges.set(edge.from, targets);
    }
    const ways = targets.get(edge.to);
    if (ways === undefined) targets.set(edge.to, [edge]);
    else if (ways.length < MAX_WAYS) ways.push(edge);
  }

  private shortestBack(start: string): LockEdge[] | null {
    const queue: LockEdge[][] = [[]];
    for (let looks = 0; looks < MAX_LOOKS && looks < queue.length; looks++) {
      const path = queue[looks];
      const at = path.at(-1)?.to ?? start;
      for (const ways of this.edges.get(at)?.values() ?? []) {
        for (const edge of ways) {
          // Both in the same class: another task could come from the other end, but for its gates.
          if (edge.from === edge.to && at === start && path.length === 0) {
            if (ways.some((other) => !haveGate(without(edge), without(other)))) return [edge];
          }
          if (edge.from === edge.to || path.some((other) => haveGate(other.held, edge.held))) continue;
          if (edge.to === start) return [...path, edge];
          if (!path.some(({ from }) => from === edge.to)) queue.push([...path, edge]);
        }
      }
    }
    return null;
  }
}

/** What a task held beside the locks of the class itself. */
function without({ held }: LockEdge): number[] {
  return held.slice(1);
}

/** Whether two tasks that hold these cannot do so at the same time. */
function haveGate(a: readonly number[], b: readonly number[]): boolean {
  return a.some((one) => b.some((other) => one >= 0 && one >> 1 === other >> 1 && (one & other & 1) === 0));
}
