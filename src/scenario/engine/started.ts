/** Steps in separate tasks, on the engine: `start` and `join`. */
import { Errno } from '../../abi/errno.ts';
import type { Task } from '../../task/op.ts';
import { condResched, spawn } from '../../task/runner.ts';
import type { TaskHandle } from '../../task/task-handle.ts';
import { refusal } from '../backend.ts';
import { MAX_STARTED, type StepResult } from '../step.ts';

export class StartedSteps {
  private readonly handles = new Map<string, TaskHandle<StepResult>>();

  get isEmpty(): boolean {
    return this.handles.size === 0;
  }

  *start(name: string, step: Task<StepResult>): Task<'ended' | 'blocked'> {
    const running = [...this.handles.values()].filter((handle) => !handle.ended);
    if (running.length >= MAX_STARTED) throw new Errno('EAGAIN', `${MAX_STARTED} started steps are under way`);
    const handle = yield* spawn(name, step);
    this.handles.set(name, handle);
    yield* condResched();
    return handle.ended ? 'ended' : 'blocked';
  }

  *join(name: string): Task<StepResult> {
    const handle = this.handles.get(name);
    if (handle === undefined) return refusal(new Errno('EBADF', `no step was started as ${name}`));
    return handle.ended ? yield* handle.join() : { ok: 'blocked' };
  }

  /** Takes a step, and then runs the started steps until each ends or waits. */
  *letRunAfter(step: Task<StepResult>): Task<StepResult> {
    const result = yield* step;
    yield* condResched();
    return result;
  }
}
