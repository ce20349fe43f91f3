/**
 * The assumption of every reduction: two steps of different tasks on different objects, or two reads, have the same
 * effect in either order. State that tasks share outside cells breaks it, so that orders are missed. This test swaps
 * each such pair of neighbours in random runs. Every task must go on as before.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkEnd } from '../../src/explore/checks/oracles.ts';
import { Random } from '../../src/explore/search/random.ts';
import { conflict, type PlannedStep } from '../../src/explore/world/access.ts';
import { Execution } from '../../src/explore/world/execution.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { StepLog } from '../../src/explore/world/step-log.ts';
import { TaskIds } from '../../src/explore/world/task-ids.ts';
import { Cell } from '../../src/task/cell.ts';
import type { Task } from '../../src/task/op.ts';
import { findProgram, listScenarios } from '../../src/verify/catalogue.ts';

const WALKS = 6;

interface Run {
  steps: PlannedStep[];
  /** The tasks that could have taken each step. */
  ready: number[][];
  /** The actions of each task, and the result of the run. */
  told: Record<string, unknown>;
}

class Audit {
  pairs = 0;
  readonly broken: string[] = [];
  private readonly ids = new TaskIds();
  private readonly log = new StepLog();
  private readonly program: Program;

  constructor(program: Program) {
    this.program = program;
  }

  walk(random: Random): void {
    const run = this.run((ready) => ready[random.below(ready.length)]);
    const schedule = run.steps.map(({ task }) => task);
    for (let i = 0; i + 1 < schedule.length; i++) {
      const [first, second] = run.steps.slice(i, i + 2);
      const isFree = first.task !== second.task && run.ready[i].includes(second.task);
      if (!isFree || conflict(first, second)) continue;
      this.pairs += 1;
      const swapped = schedule.with(i, second.task).with(i + 1, first.task);
      const again = this.run((_, depth) => swapped[depth] ?? -1);
      if (JSON.stringify(again.told) === JSON.stringify(run.told)) continue;
      this.broken.push(`${this.program.name}: steps ${i} and ${i + 1} of ${JSON.stringify(run.told)}`);
    }
  }

  private run(choose: (ready: readonly number[], depth: number) => number): Run {
    const execution = new Execution(this.program, this.ids);
    const run: Run = { steps: [], ready: [], told: {} };
    const done = new Map<string, string[]>();
    while (execution.finding === null) {
      const ready = execution.order.filter((task) => execution.isReady(task));
      const task = choose(ready, run.steps.length);
      if (!ready.includes(task)) break;
      const op = execution.pending[task]!;
      execution.step(task);
      const step = this.log.taken(execution, task, op);
      run.ready.push(ready);
      run.steps.push(step);
      const { label } = execution.handles[task];
      done.set(label, [...(done.get(label) ?? []), `${op} ${step.access}`]);
    }
    run.told = Object.fromEntries([...done].sort(([a], [b]) => (a < b ? -1 : 1)));
    run.told.end = checkEnd(execution)?.message;
    return run;
  }
}

function audit(program: Program, walks: number): Audit {
  const found = new Audit(program);
  for (let walk = 0; walk < walks; walk++) found.walk(new Random(walk + 1));
  return found;
}

test('steps of the product that are said to commute do', () => {
  let pairs = 0;
  for (const { name, isClassic } of listScenarios()) {
    if (isClassic) continue;
    const found = audit(findProgram(name), WALKS);
    assert.deepEqual(found.broken.slice(0, 1), [], name);
    pairs += found.pairs;
  }
  assert.ok(pairs > 3000, `${pairs} pairs`);
});

test('a field that two tasks share outside a cell is seen', () => {
  const program: Program = {
    name: 'hidden',
    summary: '',
    build: (stage) => {
      const [a, b, c] = ['a', 'b', 'c'].map((label) => new Cell(label, 0));
      let isSet = false;
      stage.spawn('setter', set());
      stage.spawn('looker', look());
      function* set(): Task {
        yield* a.store(1);
        isSet = true;
      }
      function* look(): Task {
        yield* b.store(1);
        if (isSet) yield* c.store(1);
      }
    },
  };
  assert.ok(audit(program, 4).broken.length > 0);
});
