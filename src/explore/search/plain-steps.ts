/** Steps as plain data, by names that are the same in every search, thread and process. */
import type { PlannedStep } from '../world/access.ts';
import type { StepLog } from '../world/step-log.ts';
import { SERIALS_PER_TASK, type TaskIds } from '../world/task-ids.ts';
import type { Branch } from './wakeup.ts';

/** A step as plain data: task, object, access, and the task that it starts or joins, or nothing. */
export type PlainStep = readonly [task: string, object: string, access: number, peer: string];

export interface PlainBranch {
  step: PlainStep;
  children: PlainBranch[];
}

/** Puts the steps of one search into plain data, and those of another into its own numbers. */
export class StepNames {
  private readonly ids: TaskIds;
  private readonly log: StepLog;

  constructor(ids: TaskIds, log: StepLog) {
    this.ids = ids;
    this.log = log;
  }

  plain({ task, object, access, peer }: PlannedStep): PlainStep {
    return [this.ids.nameOf(task), this.objectName(object), access, peer < 0 ? '' : this.ids.nameOf(peer)];
  }

  step([task, object, access, peer]: PlainStep): PlannedStep {
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
    const serial = this.log.serialOf(object);
    const creator = Math.floor(serial / SERIALS_PER_TASK) - 1;
    return creator < 0 ? `${serial}` : `${this.ids.nameOf(creator)}/${serial % SERIALS_PER_TASK}`;
  }

  private objectOf(name: string): number {
    const [creator, nth] = name.split('/');
    if (nth === undefined) return this.log.slotOf(Number(name));
    return this.log.slotOf((this.ids.idOf(creator) + 1) * SERIALS_PER_TASK + Number(nth));
  }
}
