/** barter replay, scenarios. */
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { ReplayFile } from '../explore/replay.ts';
import { htmlTimeline } from '../report/html.ts';
import { textTimeline } from '../report/timeline.ts';
import { builtInScenarios, loadScenario } from '../scenario/load.ts';
import { listScenarios, loadPrograms } from '../verify/catalogue.ts';
import { replay } from '../verify/explore.ts';
import { asUsage, readJson } from './files.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

export function addReplayCommands(program: Command): void {
  declareCommand(program, 'replay')
    .argument('<file>')
    .option('--html <file>', 'write the run as a page')
    .option('--stacks', 'under each step the stack that took it')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExample:\n  barter replay revoke-2.replay.json')
    .action(replayCommand);
  declareCommand(program, 'scenarios')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExample:\n  barter scenarios')
    .action(scenariosCommand);
}

async function replayCommand(path: string, flags: { html?: string; stacks?: boolean; json?: boolean }): Promise<void> {
  const file = readReplay(path);
  const { run, matches } = await asUsage(async () => {
    await loadPrograms(file.scenario);
    return replay(file);
  });
  if (flags.html !== undefined) writeFileSync(flags.html, htmlTimeline(run, file.mutant));
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
    console.log(textTimeline(run, { stacks: flags.stacks === true }));
    if (!matches) console.log('\nThis is not the run of the file: the code has changed since it was written.');
  }
  if (run.finding !== null || !matches) process.exitCode = 1;
}

function readReplay(path: string): ReplayFile {
  const file = readJson(path) as ReplayFile;
  if (file.barter !== 'replay' || !Array.isArray(file.steps)) throw new UsageError(`${path} is no replay file`);
  return file;
}

function scenariosCommand(flags: { json?: boolean }): void {
  const scenarios = listScenarios();
  const files = builtInScenarios().map((name) => ({ name, summary: loadScenario(name).scenario.description }));
  if (flags.json === true) {
    console.log(JSON.stringify({ scenarios, files }));
    return;
  }
  const line = ({ name, summary }: { name: string; summary: string }) => console.log(`${name.padEnd(32)} ${summary}`);
  console.log('For barter explore (NAME:N takes N importers):');
  scenarios.forEach(line);
  console.log('\nFor barter run (files in examples/scenarios):');
  files.forEach(line);
}
