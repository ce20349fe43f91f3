/** docs/driver-ci.md and its workflow: the page shows the file, and the file's commands and options exist. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { barter } from '../cli/barter.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const workflow = read('examples/driver/workflow.yml');

interface Workflow {
  jobs: { test: { steps: { run?: string; uses?: string; with?: Record<string, unknown> }[] } };
}

test('the page shows the workflow of the example', () => {
  assert.equal(/```yaml\n(.*?)```/s.exec(read('docs/driver-ci.md'))?.[1], workflow);
});

test('each command of the workflow is one of barter, with options that it has', () => {
  const { steps } = (parse(workflow) as Workflow).jobs.test;
  const commands = steps.flatMap(({ run = '' }) => /^npx barter (lab \S+) (.*)$/s.exec(run.trim()) ?? []);
  assert.deepEqual([commands[1], commands[4]], ['lab build-module', 'lab exec']);
  for (const [name, rest] of [commands.slice(1, 3), commands.slice(4, 6)]) {
    const { stdout } = barter(...name.split(' '), '--help');
    const options = rest.split(' -- ')[0].match(/--[a-z-]+/g) ?? [];
    assert.ok(options.length > 0);
    for (const option of options) assert.ok(stdout.includes(`${option} `), `${name} has no ${option}`);
  }
});

test('the workflow gives the action inputs that it has', () => {
  const { inputs } = parse(read('.github/actions/barter-lab/action.yml')) as { inputs: Record<string, unknown> };
  const { steps } = (parse(workflow) as Workflow).jobs.test;
  const step = steps.find(({ uses = '' }) => uses.includes('.github/actions/barter-lab@'));
  for (const name of Object.keys(step?.with ?? assert.fail('no step uses the action'))) assert.ok(name in inputs, name);
});
