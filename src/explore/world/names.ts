/**
 * What tasks and objects are called: numbers within one search, in the order in which it met them, and names that are
 * the same in every search, thread and process.
 */

import type { Branch, Planned } from '../search/wakeup.ts';
import type { Trace } from './trace.ts';

const MAX_TASKS = 64;
/** Children that one task may start. */
const MAX_CHILDREN = 4096;
/** Serial numbers that one task may give out in a run; those below are given out while the program is built. */
export const SERIALS_PER_TASK = 2 ** 20;

/** The same task has the same number in every run of a search: its parent's number, and which child of it it is. */
export class TaskIds {
  private readonly ids = new Map<number, number>();
  private readonly keys: number[] = [];

  /** `parent` is -1 for the tasks that the program starts with. */
  of(parent: number, child: number): number {
    const key = (parent + 1) * MAX_CHILDREN + child;
    let id = this.ids.get(key);
    if (id === undefined) {
      id = this.keys.length;
      if (id >= MAX_TASKS) throw new RangeError(`a program may have ${MAX_TASKS} tasks at most`);
      this.ids.set(key, id);
      this.keys.push(key);
    }
    return id;
  }

  /** `2.0` for the first child of the third task. */
  nameOf(id: number): string {
    const parent = Math.floor(this.keys[id] / MAX_CHILDREN) - 1;
    const child = this.keys[id] % MAX_CHILDREN;
    return parent < 0 ? `${child}` : `${this.nameOf(parent)}.${child}`;
  }

  idOf(name: string): number {
    return name.split('.').reduce((parent, child) => this.of(parent, Number(child)), -1);
  }
}

/** A step as plain data: task, object, access, and the task that it starts or joins, or nothing. */
export type PlainStep = readonly [task: string, object: string, access: number, peer: string];

export interface PlainBranch {
  step: PlainStep;
  children: PlainBranch[];
}

/** Puts the steps of one search into plain data, and those of another into its own numbers. */
export class Names {
  private readonly ids: TaskIds;
  private readonly trace: Trace;

  constructor(ids: TaskIds, trace: Trace) {
    this.ids = ids;
    this.trace = trace;
  }

  plain({ task, object, access, peer }: Planned): PlainStep {
    return [this.ids.nameOf(task), this.objectName(object), access, peer < 0 ? '' : this.ids.nameOf(peer)];
  }

  step([task, object, access, peer]: PlainStep): Planned {
    return {
      task: this.ids.idOf(task),
      object: this.objectOf(object),
      access,
      peer: peer === '' ? -1 : this.ids.idOf(peer),
    };
  }

  plainBranch(branch: Branch): PlainBranch {
    return { step: this.plain(branch), children: branch.children.map((child) => this.plainBranch(child)) };
  }

  taskName(task: number): string {
    return this.ids.nameOf(task);
  }

  taskOf(name: string): number {
    return this.ids.idOf(name);
  }

  private objectName(object: number): string {
    const serial = this.trace.serialOf(object);
    const creator = Math.floor(serial / SERIALS_PER_TASK) - 1;
    return creator < 0 ? `${serial}` : `${this.ids.nameOf(creator)}/${serial % SERIALS_PER_TASK}`;
  }

  private objectOf(name: string): number {
    const [creator, nth] = name.split('/');
    if (nth === undefined) return this.trace.slotOf(Number(name));
    return this.trace.slotOf((this.ids.idOf(creator) + 1) * SERIALS_PER_TASK + Number(nth));
  }
}
