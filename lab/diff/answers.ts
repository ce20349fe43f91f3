/** The results of a program, by the steps that gave them. */
import { given, type RunResult } from '../../src/scenario/run.ts';
import type { Step } from '../../src/scenario/step.ts';

export class ProgramAnswers {
  private readonly all: { step: Step; answer: unknown }[];

  constructor(program: readonly Step[], { steps }: RunResult) {
    this.all = program.map((step, i) => ({ step, answer: given(steps[i].result) }));
  }

  /** The answers of all steps of an op. */
  of(op: Step['op'], as?: string): unknown[] {
    const found = this.all.filter(
      ({ step }) => step.op === op && (as === undefined || ('as' in step && step.as === as)),
    );
    return found.map(({ answer }) => answer);
  }

  maps(as: string): boolean {
    return this.of('map', as).some(Array.isArray);
  }
}
