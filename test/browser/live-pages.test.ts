/** The pages of the demo and of the explorer, in a headless Chromium. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, type TestContext, test } from 'node:test';
import { LabPage } from '../../src/cli/lab-page.ts';
import { endOf, spawnBarter } from '../cli/barter.ts';
import { axeFaults } from './axe.ts';
import { openPage, skip } from './chromium.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-page-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a command with --http 0, and returns its page's address and all of its stdout so far. */
async function started(
  t: TestContext,
  ...args: string[]
): Promise<{ child: ChildProcess; url: string; out: string[] }> {
  const child = spawnBarter(...args, '--http', '0');
  t.after(() => child.exitCode ?? endOf(child, 'SIGKILL'));
  const out: string[] = [];
  child.stdout!.setEncoding('utf8').on('data', (text: string) => out.push(text));
  for await (const line of createInterface({ input: child.stderr! })) {
    const url = /^barter: live at (http:\S+)$/.exec(line)?.[1];
    if (url !== undefined) return { child, url, out };
  }
  throw new Error('the command ended without a page');
}

test('the demo waits for a page, plays on it with its lanes, and stays until it is ended', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { child, url, out } = await started(t, 'demo', '--pace', '20');
  const { page, errors } = await openPage(url);
  await page.locator('#steps .says', { hasText: 'Good: Every step did as it must.' }).waitFor();
  await page.locator('#steps li', { hasText: 'revoke: FLR' }).waitFor();
  // The server's own page: devices, and the life of the buffer.
  await page.locator('#machine article', { hasText: 'lender' }).waitFor();
  const lane = page.locator('#buffers .buffer').last();
  await lane.locator('li', { hasText: 'hot reset' }).first().waitFor({ state: 'attached' });
  assert.deepEqual(await axeFaults(page), []);
  assert.deepEqual(errors, []);
  assert.match(out.join(''), /leave nothing behind[\s\S]*no socket, process or descriptor left/);
  assert.equal(await endOf(child, 'SIGTERM'), 0);
});

test('a search shows its orders, depth, estimate and threads while it runs', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const save = join(folder, 'search.resume.json');
  const { child, url } = await started(t, 'explore', 'revoke-vs-attach:4', '--workers', '2', '--save', save, '--json');
  const { page, errors } = await openPage(url, { width: 400, height: 900 });
  const cell = (name: string) => page.locator('#search .facts tr', { hasText: name }).locator('td').nth(1);
  await page.locator('#search .facts tr', { hasText: /^Depth now\d+ steps$/ }).waitFor();
  await page.locator('#search .threads tbody tr', { hasText: 'thread 2' }).waitFor();
  const orders = async () => Number((await cell('Orders').textContent())!.replaceAll(',', ''));
  const before = await orders();
  const wasShown = await cell('Orders').textContent();
  await page.locator('#search .facts tr', { hasText: 'Orders' }).getByText(wasShown!).waitFor({ state: 'detached' });
  assert.ok((await orders()) > before);
  assert.match((await cell('Estimate').textContent())!, /^[\d,]+$/);
  assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 400);
  assert.deepEqual(await axeFaults(page), []);
  assert.deepEqual(errors, []);
  child.kill('SIGINT');
  await page.locator('#search .says', { hasText: 'the search is not complete' }).waitFor();
  assert.equal(await endOf(child, 'SIGINT'), 130);
});

test('a bug that is found opens its timeline on the page', { skip, timeout: 120_000 }, async (t) => {
  const args = ['explore', 'revoke:2', '--mutant', 'classic-no-drain', '--replay-file', join(folder, 'r.json')];
  const { child, url } = await started(t, ...args);
  const { page, errors } = await openPage(url);
  const timeline = page.frameLocator('#bug iframe');
  await timeline.locator('svg .step').first().waitFor();
  await timeline.locator('svg .fails').first().waitFor();
  assert.notEqual(await page.locator('#bug .message').textContent(), '');
  assert.deepEqual(await axeFaults(page), []);
  assert.deepEqual(errors, []);
  assert.equal(await endOf(child, 'SIGTERM'), 1);
});

test('a run in the lab shows its console, its steps and its programs as they come', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const lab = (await LabPage.open('0', 'barter lab diff'))!;
  t.after(() => lab.page.close());
  const { page, errors } = await openPage(lab.page.url, { width: 400, height: 900 });
  lab.onConsole(Buffer.from('\x1b[32m[    0.1] Linux version 6.19\x1b[0m\r\n'));
  await page.locator('#console pre', { hasText: /^\[ {4}0\.1\] Linux version 6\.19$/ }).waitFor();
  lab.step({ name: 'open the device', ok: true, ms: 1.5, seen: null });
  lab.step({ name: 'its size', ok: false, ms: 0, expected: 1, seen: 2 });
  await page.locator('#steps li', { hasText: 'open the device' }).waitFor();
  await page.locator('#steps li.bad', { hasText: 'its size: FAILED' }).waitFor();
  const program = [{ op: 'open', device: 'lender' } as const];
  const steps = [{ task: 'user', op: 'open device=lender', result: { errno: 'EBUSY', message: 'busy' } }];
  const kernel = { backend: 'linux', steps, blocked: [] };
  lab.compared('barter', { program, kernel, difference: null });
  lab.compared('igb', { program, kernel, difference: { index: 0, op: 'open', engine: null, kernel: 'EBUSY' } });
  lab.progress({ lender: 'igb', steps: 2, ofSteps: 10, differences: 1, matrix: null });
  await page.locator('#programs details', { hasText: 'barter: 1 steps agree' }).waitFor();
  const differs = page.locator('#programs details[open]', { hasText: 'the engine gives null, the kernel "EBUSY"' });
  await differs.locator('li', { hasText: 'open device=lender gives "EBUSY"' }).waitFor();
  await page.locator('#programs .says', { hasText: 'on igb: 2 of 10 steps, 1 unknown differences' }).waitFor();
  assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= 400);
  assert.deepEqual(await axeFaults(page), []);
  lab.ended(false, '1 program');
  await page.locator('#programs .says.bad', { hasText: 'Not good: 1 program' }).waitFor();
  assert.deepEqual(errors, []);
});
