/** The page of a run in the lab: the guest's console, and the steps or programs as they come. */
import type { DiffProgress } from '../../lab/diff/diff.ts';
import type { Compared } from '../../lab/diff/rig.ts';
import type { LabStep } from '../../lab/runs/run.ts';
import { describeStep, given } from '../scenario/run.ts';
import { GuestConsole } from '../web/guest-console.ts';
import type { LivePage } from '../web/live-page.ts';
import { openPage } from './http-option.ts';

const KEPT_LINES = 2000;
const KEPT_STEPS = 1000;
const KEPT_PROGRAMS = 100;

export class LabPage {
  readonly page: LivePage;
  readonly onConsole: (part: Buffer) => void;
  private readonly title: string;

  private constructor(page: LivePage, title: string) {
    this.page = page;
    this.title = title;
    const guest = new GuestConsole((lines) => page.board.add('console', lines, KEPT_LINES));
    this.onConsole = (part) => guest.take(part);
    page.run({ title, ok: null, says: 'The guest boots, and the steps follow.' });
  }

  /** Null without the option. */
  static async open(http: string | undefined, title: string): Promise<LabPage | null> {
    const page = await openPage(http);
    return page === null ? null : new LabPage(page, title);
  }

  step({ name, ok, ms, expected, seen }: LabStep): void {
    const text = (value: unknown) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? ''));
    const detail = ok ? (seen === null ? '' : text(seen)) : `expected ${text(expected)}, seen ${text(seen)}`;
    this.page.board.add('steps', [{ name, ok, ms, detail }], KEPT_STEPS);
  }

  progress({ lender, steps, ofSteps, differences, matrix }: DiffProgress): void {
    const stage = matrix === null ? '' : `; matrix, ${matrix.stage}: ${matrix.done} of ${matrix.of} programs`;
    const says = `on ${lender}: ${steps} of ${ofSteps} steps, ${differences} unknown differences${stage}`;
    this.page.run({ title: this.title, ok: null, says });
  }

  compared(lender: string, { program, kernel, difference }: Compared): void {
    const steps =
      kernel === null
        ? program.map((step) => ({ step: describeStep(step), result: 'no result' }))
        : kernel.steps.map(({ op, result }) => ({ step: op, result: JSON.stringify(given(result)) }));
    const differs =
      difference === null
        ? null
        : {
            at: difference.index,
            engine: JSON.stringify(difference.engine),
            kernel: JSON.stringify(difference.kernel),
          };
    this.page.board.add('programs', [{ lender, steps, differs }], KEPT_PROGRAMS);
  }

  ended(ok: boolean, says: string): void {
    this.page.run({ title: this.title, ok, says });
  }
}
