/**
 * The order in which all runs take lock classes, collected as in lockdep. A cycle is a deadlock that some run can
 * reach, even if no observed run did. Read-read edges count: behind a writer in the queue of a fair rw-semaphore, the
 * second reader waits. Tasks that hold a common lock cannot be in a cycle together: that lock is their gate.
 */
import { Lock } from '../../task/lock.ts';
import type { Op } from '../../task/op.ts';
import { OpKind } from '../../task/op.ts';
import { SERIALS_PER_TASK } from '../world/task-ids.ts';

export interface LockEdge {
  from: string;
  to: string;
  /** A sentence that names the task that took the second lock while it held the first. */
  witness: string;
  /** The locks that the task held, `from` first (`nameOf`). */
  held: number[];
}

/** How many ways of taking two classes in this order are kept. More would say nothing new. */
const MAX_WAYS = 16;
/** The most steps of the search for a cycle. */
const MAX_LOOKS = 20_000;

/** The locks that each task holds in one run. */
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

/** A number for a lock that is the same in every run and thread, and odd if the lock is held for reading. */
function nameOf({ lock, isShared }: Holding): number {
  return lock.serial < SERIALS_PER_TASK ? 2 * lock.serial + (isShared ? 1 : 0) : UNNAMED;
}

/** Locks that tasks make may have different numbers in different threads, so they never count as a gate. */
const UNNAMED = -2;

export class LockOrder {
  /** For two classes: the ways in which they were taken in this order. */
  private readonly edges = new Map<string, Map<string, LockEdge[]>>();

  /** Records a lock operation before it happens. A trylock adds no edge to its lock, since it never waits. */
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
   * The shortest cycle of classes, as a sentence with its witnesses, or null. Two tasks that would have to hold one
   * lock, a gate, at the same time cannot deadlock with each other.
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

  /** Adds the edges of another search of the same program. */
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
          // Both locks have the same class: another task could take them in the opposite order, unless a gate prevents
          // it.
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

/** The locks that a task held, without those of the class itself. */
function without({ held }: LockEdge): number[] {
  return held.slice(1);
}

/** Whether two tasks that hold these locks cannot do so at the same time. */
function haveGate(a: readonly number[], b: readonly number[]): boolean {
  return a.some((one) => b.some((other) => one >= 0 && one >> 1 === other >> 1 && (one & other & 1) === 0));
}
