/**
 * What tasks and objects are called: numbers within one search, in the order in which it met them, and names that are
 * the same in every search, thread and process.
 */

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
