/** Opens a mutant's page in a headless Chromium. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { ShownRun } from '../../src/explore/world/schedule.ts';
import { htmlTimeline } from '../../src/report/html.ts';
import { explore, runOf } from '../../src/verify/explore.ts';
import { openPage, skip, type WatchedPage } from './chromium.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-page-'));
after(() => rmSync(folder, { recursive: true, force: true }));

async function runWith(scenario: string, mutant: string): Promise<ShownRun> {
  const { bug } = await explore({ scenario, mutant });
  return runOf(scenario, mutant, bug!.steps);
}

async function openRun(run: ShownRun, mutant: string): Promise<WatchedPage> {
  const path = join(folder, `${mutant}.html`);
  writeFileSync(path, htmlTimeline(run, mutant));
  return await openPage(pathToFileURL(path).href);
}

test('the page of a mutant shows lanes, arrows and the failing step, and works', {
  skip,
  timeout: 60_000,
}, async (t) => {
  const mutant = 'R8-release-under-the-lock';
  const run = await runWith('revoke-vs-release', mutant);
  const { page, errors, requests } = await openRun(run, mutant);
  t.after(() => page.close());
  const count = (selector: string) => page.evaluate<number>(`document.querySelectorAll('${selector}').length`);
  assert.equal(await count('svg .lane'), run.tasks.length);
  assert.equal(await count('svg .step[data-step]'), run.steps.length);
  const edges = run.steps.reduce((sum, step) => sum + step.after.length, 0);
  assert.ok(edges > 0);
  assert.equal(await count('svg .arrow'), edges);
  assert.ok((await count('svg .lock')) >= 2, 'lock intervals');
  assert.ok((await count('svg .state')) > 4, 'states over time');
  assert.equal(await count('svg .stuck .fails'), 1, 'the task that is stuck');
  assert.equal(await count('svg .cut'), run.preemptions);
  assert.match(await page.evaluate('document.querySelector(".bad").textContent'), /^deadlock: revoker waits at lock/);
  assert.match(await page.evaluate('document.querySelector("svg .source").textContent'), /^src\/.*\.ts:\d+$/);
  assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 1280, 'two lanes fit into 1280');
  await page.evaluate('document.querySelector("#s4").dispatchEvent(new Event("click"))');
  assert.equal(await page.evaluate('document.getElementById("detail").hidden'), false);
  const detail = await page.evaluate<string>('document.getElementById("detail").textContent');
  assert.match(detail, new RegExp(`Step 4, ${run.steps[4].task}: ${run.steps[4].op}`));
  assert.ok(detail.includes(run.steps[4].stack[0]));
  await page.evaluate('document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }))');
  assert.equal(await page.evaluate('document.querySelector(".chosen").id'), 's5');
  assert.deepEqual(errors, []);
  assert.equal(requests.length, 1, `the page asks for more than itself: ${requests}`);
});

test('a step that breaks an invariant is where the page says, in light and dark', {
  skip,
  timeout: 60_000,
}, async (t) => {
  const mutant = 'R2-registration-ignored';
  const run = await runWith('export-vs-unregister', mutant);
  const { page, errors } = await openRun(run, mutant);
  t.after(() => page.close());
  const at = run.failsAt[0];
  assert.equal(await page.evaluate(`document.querySelector('#s${at} .fails') !== null`), true);
  assert.equal(await page.evaluate('document.querySelectorAll("svg .step .fails").length'), 1);
  assert.equal(await page.evaluate('document.querySelector(".facts a").hash'), `#s${at}`);
  assert.match(await page.evaluate('document.body.textContent'), /vfio_device\.refcount: who made it/);
  const paper = () => page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
  const light = await paper();
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.notEqual(await paper(), light);
  assert.deepEqual(errors, []);
});

test('a long run of many tasks is drawn whole, lanes beside each other', { skip, timeout: 60_000 }, async (t) => {
  const run = await runWith('revoke-vs-dma:5', 'posted-write-lingers');
  const { page, errors } = await openRun(run, 'posted-write-lingers');
  t.after(() => page.close());
  const lefts = await page.evaluate<number[]>(
    '[...document.querySelectorAll(".heads span:not(.object)")].map((head) => head.getBoundingClientRect().left)',
  );
  assert.equal(lefts.length, run.tasks.length);
  assert.deepEqual(
    lefts,
    lefts.toSorted((a, b) => a - b),
  );
  const outside = await page.evaluate<number>(`(() => {
    const { right, bottom } = document.querySelector('svg').getBoundingClientRect();
    return [...document.querySelectorAll('svg rect')].filter((rect) => {
      const box = rect.getBoundingClientRect();
      return box.right > right + 1 || box.bottom > bottom + 1;
    }).length;
  })()`);
  assert.equal(outside, 0);
  assert.deepEqual(errors, []);
});
