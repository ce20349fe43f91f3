/** The default profile and linux-7.3 differ exactly as docs/differences.md says. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildMachine } from '../../src/machine/build.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { loadScenario } from '../../src/scenario/load.ts';
import { given, runScenario } from '../../src/scenario/run.ts';
import { PROFILES, type Profile } from '../../src/vfio/profile.ts';
import { barter } from '../cli/barter.ts';

const repository = fileURLToPath(new URL('../../', import.meta.url));
const { default: ours, 'linux-7.3': linux } = PROFILES;

/** The fields of the page's table, and the files that its last column names. */
function rows(): Map<string, string[]> {
  const page = readFileSync(`${repository}docs/differences.md`, 'utf8');
  const lines = [...page.matchAll(/^\| `(\w+)` \|.*\| ([^|]*) \|$/gm)];
  return new Map(lines.map(([, field, tests]) => [field, [...tests.matchAll(/`([^`]+)`/g)].map(([, file]) => file)]));
}

function results(file: string, profile: Profile): unknown[] {
  const { scenario, machinePath } = loadScenario(`${repository}${file}`);
  const backend = new EngineBackend(buildMachine(loadMachine(machinePath)), profile);
  const { steps, blocked } = runScenario(scenario, backend);
  assert.deepEqual(blocked, [], file);
  return steps.map(({ result }) => given(result));
}

function differing(some: readonly unknown[], others: readonly unknown[]): number[] {
  return some.flatMap((one, i) => (JSON.stringify(one) === JSON.stringify(others[i]) ? [] : [i]));
}

/** The steps with a different result on Linux. */
function marked(file: string): number[] {
  const { setup = [], tasks } = loadScenario(`${repository}${file}`).scenario;
  return [...setup, ...Object.values(tasks).flat()].flatMap(({ expect, linux }, i) =>
    linux === undefined || JSON.stringify(linux) === JSON.stringify(expect) ? [] : [i],
  );
}

test('the page has a row for each field, and each row a scenario that there is', () => {
  const fields = Object.keys(ours).filter((field) => !['name', 'proposed'].includes(field));
  assert.deepEqual([...rows().keys()].sort(), fields.sort());
  for (const [field, files] of rows()) {
    for (const file of files) assert.ok(existsSync(`${repository}${file}`), `${field}: there is no ${file}`);
    assert.ok(
      files.some((file) => file.endsWith('.yaml')),
      `${field} has no scenario`,
    );
  }
});

test('each field is what makes the difference in its scenarios', () => {
  for (const [field, files] of rows()) {
    for (const file of files.filter((name) => name.endsWith('.yaml'))) {
      const [default_, asLinux] = [results(file, ours), results(file, linux)];
      assert.notDeepEqual(differing(default_, asLinux), [], `${field}: ${file}`);
      const key = field as keyof Profile;
      // Switches one field at a time, from either profile.
      const linuxButOne = results(file, { ...linux, [key]: ours[key] });
      assert.notDeepEqual(differing(linuxButOne, asLinux), [], `${field} does nothing in ${file} on linux-7.3`);
      const oursButOne = results(file, { ...ours, [key]: linux[key] });
      assert.notDeepEqual(differing(oursButOne, default_), [], `${field} does nothing in ${file} by default`);
    }
  }
});

test('no step of any scenario differs that does not say so', () => {
  const folders = ['examples/scenarios', 'lab/facts', 'lab/findings'];
  const files = folders.flatMap((folder) =>
    readdirSync(`${repository}${folder}`)
      .filter((file) => file.endsWith('.yaml'))
      .map((file) => `${folder}/${file}`),
  );
  for (const file of files) assert.deepEqual(differing(results(file, ours), results(file, linux)), marked(file), file);
});

test('barter run says the same', () => {
  const [file] = rows().get('checkOpenFlags')!;
  const run = (...options: string[]) => {
    const { status, stdout, stderr } = barter('run', `${repository}${file}`, '--json', ...options);
    assert.notEqual(stdout, '', stderr);
    const document = JSON.parse(stdout) as {
      steps: { result: { ok: unknown } | { errno: string; message: string } }[];
    };
    return { status, given: document.steps.map(({ result }) => given(result)) };
  };
  const [default_, asLinux] = [run(), run('--profile', 'linux-7.3')];
  assert.deepEqual(differing(default_.given, asLinux.given), marked(file));
  assert.deepEqual([default_.given, asLinux.given], [results(file, ours), results(file, linux)]);
});
