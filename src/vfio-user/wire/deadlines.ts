/** Pending deadlines, soonest first: a binary heap, so that many of them cost little more than few. */

export class Deadline {
  readonly atMs: number;
  readonly run: () => void;
  /** The deadline's place in the heap; -1 when it is not listed any more. */
  index = -1;

  constructor(atMs: number, run: () => void) {
    this.atMs = atMs;
    this.run = run;
  }
}

export class Deadlines {
  private readonly heap: Deadline[] = [];

  /** The soonest deadline; undefined without any. */
  get first(): Deadline | undefined {
    return this.heap[0];
  }

  add(atMs: number, run: () => void): Deadline {
    const deadline = new Deadline(atMs, run);
    this.heap.push(deadline);
    this.rise(deadline, this.heap.length - 1);
    return deadline;
  }

  /** Removes a deadline; false where it has run or was removed before. */
  remove(deadline: Deadline): boolean {
    const { index } = deadline;
    if (index < 0) return false;
    deadline.index = -1;
    const last = this.heap.pop()!;
    if (last === deadline) return true;
    this.rise(last, index);
    this.sink(last, last.index);
    return true;
  }

  private rise(deadline: Deadline, from: number): void {
    const { heap } = this;
    let at = from;
    while (at > 0) {
      const parent = heap[(at - 1) >> 1];
      if (parent.atMs <= deadline.atMs) break;
      this.put(parent, at);
      at = (at - 1) >> 1;
    }
    this.put(deadline, at);
  }

  private sink(deadline: Deadline, from: number): void {
    const { heap } = this;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1].atMs < heap[child].atMs) child += 1;
      if (heap[child].atMs >= deadline.atMs) break;
      this.put(heap[child], at);
      at = child;
    }
    this.put(deadline, at);
  }

  private put(deadline: Deadline, index: number): void {
    this.heap[index] = deadline;
    deadline.index = index;
  }
}
