/** Runs one schedule twice to check that a program is deterministic. */
import { Execution } from '../world/execution.ts';
import type { Finding } from '../world/finding.ts';
import { KeptWorld } from '../world/kept-world.ts';
import type { Program } from '../world/program.ts';
import { StepLog } from '../world/step-log.ts';
import { TaskIds } from '../world/task-ids.ts';

/** A nondeterministic program shows a difference early, if it shows one at all. */
const MAX_STEPS = 1_000;

/** Always continues the first task that can go on, twice. Returns null if both runs were the same. */
export function findDifference(program: Program): { finding: Finding; schedule: number[] } | null {
  const [ids, log] = [new TaskIds(), new StepLog()];
  const kept = new KeptWorld();
  const first = new Execution(program, ids, { kept });
  for (;;) {
    for (const task of first.order) if (task >= log.width) log.width = task + 1;
    const task = first.order.find((one) => first.isReady(one));
    if (task === undefined || first.finding !== null || log.length === MAX_STEPS) break;
    log.take(first, task);
  }
  const second = new Execution(program, ids, { kept });
  for (let at = 0; at < log.length; at++) {
    const task = log.task[at];
    const change = log.retake(second, task, at);
    if (change === null) continue;
    const label = second.handles[task]?.label ?? ids.nameOf(task);
    const schedule = Array.from({ length: at }, (_, i) => first.order.indexOf(log.task[i]));
    return { finding: differenceAt(at, label, change), schedule };
  }
  return null;
}

/** The finding for a step that differs from its first run. `how` says how. */
export function differenceAt(step: number, label: string, how: string): Finding {
  const message = `the program is not deterministic: step ${step}, the one of ${label}, ${how}`;
  return { invariant: 'determinism', message };
}
