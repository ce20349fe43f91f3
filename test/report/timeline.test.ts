import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ShownRun } from '../../src/explore/world/schedule.ts';
import { htmlTimeline } from '../../src/report/html.ts';
import { textTimeline } from '../../src/report/timeline.ts';
import { explore, runOf } from '../../src/verify/explore.ts';

async function runWith(scenario: string, mutant: string): Promise<ShownRun> {
  const { bug } = await explore({ scenario, mutant });
  return runOf(scenario, mutant, bug!.steps);
}

test('the text has a line for each step, marks preemptions and failing steps, and says what broke', async () => {
  const run = await runWith('revoke:2', 'classic-no-drain');
  assert.equal(
    textTimeline(run),
    [
      '    importer0       revoker',
      ' 0  lock buffer     .               held by importer0',
      ' 1  update maps     .               1',
      ' 2  unlock buffer   .               free',
      ' 3~ .               lock buffer     held by revoker',
      ' 4! .               unlock buffer   free',
      '    no step by importer1',
      ' !  I2: a revoke returned with 1 mappings',
    ].join('\n'),
  );
});

test('the text names who is stuck where, and behind whom', async () => {
  const text = textTimeline(await runWith('revoke-vs-release', 'R8-release-under-the-lock'));
  assert.match(
    text,
    /^ +revoker: stuck at lock vfio_pci_core_device\.memory_lock, held for write by revoker {2}src\/vfio\/dmabuf\.ts:\d+$/m,
  );
});

test('histories and stacks follow the steps', async () => {
  const run = await runWith('export-vs-unregister', 'R2-registration-ignored');
  const text = textTimeline(run, { stacks: true });
  assert.match(
    text,
    /\nvfio_device\.refcount:\n {2}step 0, unbinder: 1 to 0\n {6}Registration\.put src\/vfio\/registration/,
  );
  for (const frame of run.steps[0].stack) assert.ok(text.includes(`        ${frame}`));
  assert.ok(!textTimeline(run).includes('        VfioPciCoreDevice.unregister src'), 'stacks only when asked for');
});

test('every step of the product has a source line, and an arrow only to an earlier step of another task', async () => {
  for (const [scenario, mutant] of [
    ['revoke-vs-detach', 'L12-lock-destroyed-early'],
    ['hot-reset-vs-member-revoke', 'L2-untaken-lock-walked'],
  ]) {
    const run = await runWith(scenario, mutant);
    for (const step of run.steps) {
      assert.match(step.source, /^src\/(vfio|dma-buf|pci|scenario|verify)\/.*\.ts:\d+$/);
      for (const from of step.after) {
        assert.ok(from < step.index);
        assert.notEqual(run.steps[from].task, step.task);
      }
    }
    assert.ok(run.steps.some((step) => step.after.length > 0));
  }
});

test('the page needs no other file, and nothing in a run can break out of it', async () => {
  const run = await runWith('revoke-vs-release', 'R8-list-without-lock');
  const page = htmlTimeline(run, 'R8-list-without-lock');
  assert.doesNotMatch(page, /<link|src="|url\((?!#)|@import|https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
  const hostile = '</script><img src=x onerror=alert(1)>"';
  const step = { ...run.steps[0], task: hostile, object: hostile, state: hostile, stack: [hostile] };
  const evil = htmlTimeline({ ...run, program: hostile, tasks: [hostile], steps: [step], failsAt: [], blocked: [] });
  assert.ok(!evil.includes('<img'));
  assert.equal(evil.split('</script>').length, 3, 'the two scripts of the page end where they should');
});

test('the page of a run in which nothing broke says so', () => {
  const run = runOf('revoke:1', null, []);
  assert.match(htmlTimeline(run), /No invariant was broken/);
  assert.equal(textTimeline(run).split('\n').length, 1);
});
