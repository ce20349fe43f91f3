/**
 * Identities of tasks and objects: numbers within one search, in the order of their first use, and names that are the
 * same in every search, thread and process.
 */

const MAX_TASKS = 64;
/** The most children that one task may start. */
const MAX_CHILDREN = 4096;
/** How many serial numbers each task has in a run. Objects made while the program is built use the lower ones. */
export const SERIALS_PER_TASK = 2 ** 20;

/** Gives the same task the same number in every run of a search, from its parent's number and its index as a child. */
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
