/** Steps as plain data, with names that are the same in every search, thread and process. */
import type { PlannedStep } from '../world/access.ts';
import { insideOf, type ScopeEntry, scopeOf } from '../world/invariant-scopes.ts';
import type { StepLog } from '../world/step-log.ts';
import { SERIALS_PER_TASK, type TaskIds } from '../world/task-ids.ts';
import { type Branch, branchOf } from './wakeup.ts';

/** A step as plain data: task, object, access, and the task that it starts or joins, if any. */
export type PlainStep = readonly [task: string, object: string, access: number, peer: string, seenBy: number];

/** A check by its number, the object that a part of it is about if any, and an object that it looks at. */
export type PlainScopeEntry = readonly [check: number, about: string, object: string];

export interface PlainBranch {
  step: PlainStep;
  /** The least that the step may touch, if it is not exact. */
  least?: PlainStep;
  children: PlainBranch[];
}

/** Turns one search's steps into plain data, and plain data into the numbers of another search. */
export class StepNames {
  private readonly ids: TaskIds;
  private readonly log: StepLog;

  constructor(ids: TaskIds, log: StepLog) {
    this.ids = ids;
    this.log = log;
  }

  plain({ task, object, access, peer, seenBy }: PlannedStep): PlainStep {
    return [this.ids.nameOf(task), this.objectName(object), access, peer < 0 ? '' : this.ids.nameOf(peer), seenBy];
  }

  step([task, object, access, peer, seenBy]: PlainStep): PlannedStep {
    return {
      task: this.ids.idOf(task),
      object: this.objectOf(object),
      access,
      peer: peer === '' ? -1 : this.ids.idOf(peer),
      seenBy,
    };
  }

  plainBranch({ step, least, children }: Branch): PlainBranch {
    const plain = { step: this.plain(step), children: children.map((child) => this.plainBranch(child)) };
    return least === null ? plain : { ...plain, least: this.plain(least) };
  }

  branch({ step, least, children }: PlainBranch): Branch {
    return {
      ...branchOf(this.step(step), least === undefined ? null : this.step(least)),
      children: children.map((child) => this.branch(child)),
    };
  }

  plainLooks(looks: readonly ScopeEntry[]): PlainScopeEntry[] {
    return looks.map(([scope, serial]) => {
      const [check, about] = insideOf(scope);
      return [check, about < 0 ? '' : this.nameOfSerial(about), this.nameOfSerial(serial)];
    });
  }

  looks(looks: readonly PlainScopeEntry[]): ScopeEntry[] {
    return looks.map(([check, about, name]) => [
      about === '' ? scopeOf(check) : scopeOf(check, this.serialOf(about)),
      this.serialOf(name),
    ]);
  }

  taskName(task: number): string {
    return this.ids.nameOf(task);
  }

  taskOf(name: string): number {
    return this.ids.idOf(name);
  }

  private objectName(object: number): string {
    return this.nameOfSerial(this.log.serialOf(object));
  }

  private nameOfSerial(serial: number): string {
    const creator = Math.floor(serial / SERIALS_PER_TASK) - 1;
    return creator < 0 ? `${serial}` : `${this.ids.nameOf(creator)}/${serial % SERIALS_PER_TASK}`;
  }

  private objectOf(name: string): number {
    return this.log.slotOf(this.serialOf(name));
  }

  private serialOf(name: string): number {
    const [creator, nth] = name.split('/');
    return nth === undefined ? Number(name) : (this.ids.idOf(creator) + 1) * SERIALS_PER_TASK + Number(nth);
  }
}
