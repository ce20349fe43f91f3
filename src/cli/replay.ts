/** barter replay, scenarios. */
import type { Command } from 'commander';
import type { ReplayFile } from '../explore/replay.ts';
import { htmlTimeline } from '../report/html.ts';
import { columns, hang } from '../report/lines.ts';
import { textTimeline } from '../report/timeline.ts';
import { builtInScenarios, loadScenario } from '../scenario/load.ts';
import { listScenarios, loadPrograms } from '../verify/catalogue.ts';
import { replay } from '../verify/explore.ts';
import { asUsage } from './explore-errors.ts';
import { readBytes, readJson, writeWhole } from './files.ts';
import { demandSocket } from './socket-client.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

/** The group whose names follow a rule. */
const TRIGGER_PAIRS = 'Two triggers at once';
const NAME_COLUMNS = 26;

const REPLAY_EXAMPLES = `
Examples:
  barter replay revoke-2.replay.json
  barter replay peers.pcapng --to /run/other/lender.sock --device lender
  barter replay peers.pcapng --to /run/other/lender.sock --device lender --ignore REGION_READ.data --json`;

interface ReplayFlags {
  html?: string;
  stacks?: boolean;
  to?: string;
  device?: string;
  ignore?: string[];
  json?: boolean;
}

export function addReplayCommands(program: Command): void {
  declareCommand(program, 'replay')
    .argument('<file>')
    .option('--html <file>', 'write the run as a page')
    .option('--stacks', 'under each step the stack that took it')
    .option('--to <socket>', 'say the commands of a capture of serve --pcap to this vfio-user server; compare replies')
    .option('--device <name>', 'with --to: the device of the capture, where it has several')
    .option('--ignore <fields...>', 'with --to: fields that may differ, such as pgsizes or REGION_READ.data')
    .option('--json', 'one JSON document')
    .addHelpText('after', REPLAY_EXAMPLES)
    .action(replayCommand);
  declareCommand(program, 'scenarios')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExample:\n  barter scenarios')
    .action(scenariosCommand);
}

async function replayCommand(path: string, flags: ReplayFlags): Promise<void> {
  const bytes = readBytes(path);
  if (await replayedAsCapture(path, bytes, flags)) return;
  const file = readReplay(path, bytes);
  const { run, matches } = await asUsage(async () => {
    await loadPrograms(file.scenario);
    return replay(file);
  });
  if (flags.json === true) {
    const bug = run.finding === null ? null : { ...run.finding, schedule: run.steps.map((s) => s.task) };
    console.log(
      JSON.stringify({
        scenario: run.program,
        executions: 1,
        blocked: 0,
        steps: run.steps.length,
        matches,
        bug: bug === null ? null : { ...bug, preemptions: run.preemptions },
      }),
    );
  } else {
    console.log(textTimeline(run, { stacks: flags.stacks === true, columns: columns() }));
    if (!matches) console.log('\nThis is not the run of the file: the code has changed since it was written.');
  }
  if (run.finding !== null || !matches) process.exitCode = 1;
  if (flags.html !== undefined) writeWhole(flags.html, htmlTimeline(run, file.mutant), '--html');
}

/** Replays a capture, and returns whether the file is one. Refuses options that belong to the other kind of file. */
async function replayedAsCapture(path: string, bytes: Buffer, flags: ReplayFlags): Promise<boolean> {
  const { to, html, stacks, device, ignore } = flags;
  if (to === undefined) {
    const { isCapture } = await import('../report/pcapng.ts');
    if (isCapture(bytes)) throw new UsageError(`${path} is a capture: name a vfio-user server by --to SOCKET`);
    if (device !== undefined || ignore !== undefined) throw new UsageError('--device and --ignore go with --to SOCKET');
    return false;
  }
  if (html !== undefined || stacks !== undefined) throw new UsageError('--html and --stacks do not go with --to');
  demandSocket(to);
  const { replayCapture } = await import('./replay-capture.ts');
  replayCapture(path, bytes, { ...flags, to });
  return true;
}

function readReplay(path: string, bytes: Buffer): ReplayFile {
  const file = readJson(path, bytes) as ReplayFile;
  if (file.barter !== 'replay' || !Array.isArray(file.steps))
    throw new UsageError(`${path} is not a replay file; barter explore writes one for each bug`);
  return file;
}

function scenariosCommand(flags: { json?: boolean }): void {
  const scenarios = listScenarios();
  const files = builtInScenarios().map((name) => ({ name, summary: loadScenario(name).scenario.description }));
  if (flags.json === true) {
    console.log(JSON.stringify({ scenarios, files }));
    return;
  }
  const pairs = scenarios.filter(({ group }) => group === TRIGGER_PAIRS);
  console.log('For barter explore; NAME:N takes N importers, or a classic of size N.');
  for (const group of new Set(scenarios.map((scenario) => scenario.group))) {
    console.log(`\n${group}:`);
    if (group === TRIGGER_PAIRS) printPairs(pairs.map(({ name }) => name));
    else for (const { name, summary } of scenarios.filter((scenario) => scenario.group === group)) line(name, summary);
  }
  console.log('\nFor barter run (files in examples/scenarios):');
  for (const { name, summary } of files) line(name, summary);
}

function line(name: string, summary: string): void {
  const indent = NAME_COLUMNS + 2;
  const left = `${name.padEnd(NAME_COLUMNS)}  `;
  const start = left.length > indent ? `${name}\n${' '.repeat(indent)}` : left;
  console.log(`${start}${hang(summary, indent, columns(), indent)}`);
}

/** Prints the scenarios of all pairs of triggers. Their names explain them, so they do not get a line each. */
function printPairs(names: readonly string[]): void {
  const width = Math.max(...names.map((name) => name.length)) + 2;
  const inLine = Math.max(1, Math.floor((columns() + 2) / width));
  for (let at = 0; at < names.length; at += inLine) {
    const line = names.slice(at, at + inLine).map((name) => name.padEnd(width));
    console.log(line.join('').trimEnd());
  }
}
