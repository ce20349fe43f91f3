/** The production runner, forced to run tasks in a chosen order, one step at a time. */
import type { Program } from '../../src/explore/world/program.ts';
import { type Op, OpKind, type Task } from '../../src/task/op.ts';
import { condResched, Runner } from '../../src/task/runner.ts';
import { runtime } from '../../src/task/runtime.ts';
import { currentTask, type TaskHandle } from '../../src/task/task-handle.ts';

/** Chooses the next task among those that can go on. */
export type Choose = (ready: readonly TaskHandle[]) => TaskHandle;

/** The result of a run. */
export interface ChosenRun {
  /** Labels of the tasks that wait for ever. */
  hanging: string[];
  /** The errors of tasks that nobody joined. */
  errors: unknown[];
}

class ChosenRunner extends Runner {
  readonly started: TaskHandle[] = [];
  choose: Choose = ([first]) => first;

  override spawn<T>(label: string, task: Task<T>): TaskHandle<T> {
    const handle = super.spawn(label, stepByStep(task));
    this.started.push(handle as TaskHandle);
    return handle;
  }

  protected override next(): TaskHandle | undefined {
    this.queue.push(...this.later.splice(0));
    if (this.queue.length === 0) return undefined;
    const handle = this.choose(this.queue);
    this.queue.splice(this.queue.indexOf(handle), 1);
    return handle;
  }
}

/** The step that each task has reached. */
const next = new WeakMap<TaskHandle, Op>();

/** Yields to the chooser before each step of a task. */
function* stepByStep<T>(task: Task<T>): Task<T> {
  const iterator = task[Symbol.iterator]();
  let result = iterator.next(undefined);
  while (result.done !== true) {
    next.set(currentTask(), result.value);
    yield condResched() as Op;
    let input: unknown;
    try {
      input = yield result.value;
    } catch (error) {
      if (iterator.throw === undefined) throw error;
      result = iterator.throw(error);
      continue;
    }
    result = iterator.next(input);
  }
  return result.value;
}

/** Runs a program until no task can go on. */
export function runChosen(program: Program, choose: Choose): ChosenRun {
  return run(program, () => choose);
}

/**
 * Follows a schedule of the explorer, which has a task number for each step, in the order in which tasks were started.
 * Then the remaining tasks go as far as they can, writers first.
 */
export function runSchedule(program: Program, schedule: readonly number[]): ChosenRun {
  return run(program, (runner) => {
    let at = 0;
    return (ready) => {
      // A task must reach its first step before it can take it.
      const fresh = ready.find((handle) => !next.has(handle));
      if (fresh !== undefined) return fresh;
      if (at < schedule.length) {
        const wanted = runner.started[schedule[at]];
        if (!ready.includes(wanted)) throw new Error(`step ${at}: ${wanted.label} cannot go on`);
        at += 1;
        return wanted;
      }
      return ready.find((handle) => next.get(handle)!.kind === OpKind.LOCK) ?? ready[0];
    };
  });
}

function run(program: Program, chooser: (runner: ChosenRunner) => Choose): ChosenRun {
  const runner = new ChosenRunner();
  const errors: unknown[] = [];
  runner.onFailure = ({ error }) => errors.push(error);
  runner.choose = chooser(runner);
  runtime.observed = true;
  try {
    program.build({
      spawn: (label, task) => runner.spawn(label, task),
      atEnd() {},
      afterEach() {},
      comparesBy() {},
      keep: (make) => make(),
      alike() {},
    });
    runner.drain();
  } finally {
    runtime.observed = false;
  }
  const hanging = runner.started.filter(({ ended }) => !ended).map(({ label }) => label);
  return { hanging, errors };
}
