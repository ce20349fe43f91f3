/**
 * Slow viewers of a served page, beside its clients: a slow browser, a hundred open pages, streams that nobody reads.
 * Exchanges take turns with those of a server without a page, so other load on the machine slows both alike.
 */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { median } from '../../src/demo/median.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { endOf, startBarter } from '../cli/barter.ts';
import type { ViewerCounts } from '../web/viewers-process.ts';
import { openPage, skip } from './chromium.ts';

const VIEWERS: ViewerCounts = { read: 100, slow: 15, never: 80, files: 60 };
/** Updates of a page, two in a second, during which rates are measured. */
const UPDATES = 24;
const EXCHANGES = 500;
const LEAST_ROUNDS = 15;
/** A serving thread that waited for viewers would do nearly nothing. One that does not has about 1, in noise. */
const LEAST_RATIO = 0.5;
/** A server that kept the updates for each stream that nobody reads would grow by more. */
const MOST_GROWTH_MIB = 24;

async function served(t: TestContext, ...options: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'barter-slow-'));
  const args = ['examples/two-peers.yaml', '--socket-dir', folder, '--json', ...options];
  const { child, firstLine } = await startBarter('serve', ...args);
  child.stderr!.resume();
  const { devices, http } = JSON.parse(firstLine) as { devices: { socket: string }[]; http: string };
  const client = new VfioUserClient(devices[0].socket);
  t.after(async () => {
    client.close();
    await endOf(child, 'SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  });
  return { pid: child.pid!, client, http };
}

function perSecond(client: VfioUserClient): number {
  const word = Buffer.alloc(4);
  const beganMs = performance.now();
  for (let i = 0; i < EXCHANGES; i++) client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, 0, word);
  return (1000 * EXCHANGES) / (performance.now() - beganMs);
}

function residentMib(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

test("a slow browser, a hundred pages and viewers that never read leave the clients' rate and the memory as they were", {
  skip,
  timeout: 300_000,
}, async (t) => {
  const [plain, watched] = [await served(t), await served(t, '--http', '0')];
  for (const { client } of [plain, watched]) for (let i = 0; i < 10; i++) perSecond(client);
  const { page } = await openPage(watched.http);
  const browser = await page.context().newCDPSession(page);
  await browser.send('Emulation.setCPUThrottlingRate', { rate: 20 });
  await page.locator('#machine article').first().waitFor();
  const before = residentMib(watched.pid);
  const viewers = fork(new URL('../web/viewers-process.ts', import.meta.url), [watched.http, JSON.stringify(VIEWERS)]);
  t.after(() => viewers.kill());
  const [first] = (await once(viewers, 'message')) as [number];
  let updates = first;
  viewers.on('message', (count) => {
    updates = Number(count);
  });
  const rates: { plain: number; watched: number }[] = [];
  while (updates - first < UPDATES || rates.length < LEAST_ROUNDS) {
    // Each goes first as often as the other.
    const sides = rates.length % 2 === 0 ? (['plain', 'watched'] as const) : (['watched', 'plain'] as const);
    const round = { plain: 0, watched: 0 };
    for (const side of sides) round[side] = perSecond((side === 'plain' ? plain : watched).client);
    rates.push(round);
    await turn();
  }
  const ratio = median(rates.map((round) => round.watched / round.plain));
  const growth = residentMib(watched.pid) - before;
  const words = `${rates.length} rounds: ${ratio.toFixed(2)} of the rate without a page; ${growth.toFixed(1)} MiB more`;
  t.diagnostic(words);
  assert.ok(ratio >= LEAST_RATIO, words);
  assert.ok(growth <= MOST_GROWTH_MIB, words);
  // It still answers those who read.
  assert.match(await (await fetch(`${watched.http}metrics`)).text(), /^barter_messages_total\{.*REGION_READ.*\} \d+$/m);
});
