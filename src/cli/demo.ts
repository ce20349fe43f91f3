/** barter demo: the whole path on this machine, in seconds. */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { type Audience, runDemo } from '../demo/demo.ts';
import { END_SIGNALS } from '../linux/end-signals.ts';
import { packageFile } from '../linux/package-file.ts';
import { timedStepText } from '../report/lines.ts';
import type { LivePage } from '../web/live-page.ts';
import { addHttpOption, keepPage, openPage } from './http-option.ts';
import { declareCommand } from './summaries.ts';
import { integer } from './usage.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
/** How long each step of a watched demo stays, so that eyes can follow. */
const PACE_MS = 1500;
const TITLE = 'barter demo';
const ABOUT = 'A client lends a BAR of one device to another over vfio-user, and takes it back.';

interface DemoOptions {
  json?: true;
  http?: string;
  pace: number;
}

export function addDemoCommand(program: Command): void {
  addHttpOption(declareCommand(program, 'demo'), 'play it on a live page, at a speed that eyes follow')
    .option('--pace <ms>', 'with --http: how long each step stays', integer(0, 60_000), PACE_MS)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
With --http the demo begins when a page is open, and the page stays until Ctrl-C.

Examples:
  barter demo
  barter demo --json
  barter demo --http 8080`,
    )
    .action((options: DemoOptions) => demo(options));
}

async function demo({ json, http, pace }: DemoOptions): Promise<void> {
  const print = json === true ? () => {} : (text: string) => console.log(text);
  const { page, somebody } = await openStage(http);
  print(`${ABOUT}\n`);
  if (page !== null) {
    print('Waiting for a page to open ...');
    page.run({ title: TITLE, ok: null, says: ABOUT });
    await somebody;
  }
  // A watched demo takes long enough to be ended, and its server ends with it.
  const end = (signal: NodeJS.Signals) => process.exit(128 + constants.signals[signal]);
  if (page !== null) for (const signal of END_SIGNALS) process.on(signal, end);
  const started = performance.now();
  const steps = await runDemo(
    MACHINE,
    (step) => {
      print(timedStepText(step));
      page?.board.add('steps', [step], 100);
      page?.send();
    },
    page === null ? undefined : await audience(page, pace),
  );
  const ok = steps.every((step) => step.ok);
  if (!ok) process.exitCode = 1;
  if (json === true) console.log(JSON.stringify({ ok, steps }));
  print(ok ? next(performance.now() - started) : '\nA step failed: see above.');
  page?.run({ title: TITLE, ok, says: ok ? 'Every step did as it must.' : 'A step failed.' });
  for (const signal of END_SIGNALS) process.off(signal, end);
  await keepPage(page);
}

/** The page, and a promise that resolves when somebody looks at it. */
async function openStage(http: string | undefined): Promise<{ page: LivePage | null; somebody: Promise<void> }> {
  let onSomebody = (): void => {};
  const somebody = new Promise<void>((resolve) => {
    onSomebody = resolve;
  });
  const page = await openPage(http, (count) => {
    if (count > 0) onSomebody();
  });
  return { page, somebody };
}

/** Those who watch on the page. They see the server's own page there, too. */
async function audience(page: LivePage, paceMs: number): Promise<Audience> {
  const { mirror } = await import('../web/mirror.ts');
  return {
    onServer: (url) => void mirror(url, page.board),
    pause: async () => {
      await sleep(paceMs);
    },
  };
}

function next(ms: number): string {
  return `
All of it in ${(ms / 1000).toFixed(1)} s. What to try next:
  npx barter inspect examples/two-peers.yaml   what the two devices are
  npx barter explore revoke-vs-map             every interleaving, on the same code
  npx barter serve examples/two-peers.yaml     the devices for QEMU's vfio-user-pci
  npx barter lab run guest-export              a real Linux in QEMU drives them`;
}
