/** Searches by several threads, and stopped and resumed searches: the same totals and the same bug. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExploreOptions, ExploreProgress, ExploreResult } from '../../src/explore/explore.ts';
import { type ResumeFile, restoreSearch } from '../../src/explore/parallel/resume.ts';
import { StaleStateError } from '../../src/explore/search/search.ts';
import { makeSearch } from '../../src/explore/spec.ts';
import { findProgram } from '../../src/verify/catalogue.ts';
import { explore } from '../../src/verify/explore.ts';

/** The results that must not depend on the threads or on how often the search was stopped. */
function totalsOf({ executions, blocked, steps, complete, bug }: ExploreResult): object {
  return { executions, blocked, steps, complete, bug };
}

const SEARCHES: ExploreOptions[] = [
  { scenario: 'revoke-vs-map:2' },
  { scenario: 'revoke:4' },
  { scenario: 'sigma:4' },
  { scenario: 'lastzero:8', algorithm: 'source' },
  { scenario: 'revoke-vs-dma', bound: 2 },
  { scenario: 'fib:1', algorithm: 'dfs' },
  { scenario: 'revoke-vs-dma', algorithm: 'pct', max: 400, seed: 3 },
  { scenario: 'revoke:3', mutant: 'classic-no-drain' },
  { scenario: 'revoke-vs-map:2', mutant: 'told-before-it-is-so' },
  { scenario: 'revoke-vs-release', mutant: 'R8-dead-file-walked', algorithm: 'random' },
  { scenario: 'revoke:4', max: 3000 },
];

test('two and three threads come to what one comes to', async () => {
  for (const [i, options] of SEARCHES.entries()) {
    const alone = totalsOf(await explore(options));
    const together = await explore({ ...options, workers: 2 + (i % 2) });
    assert.deepEqual(totalsOf(together), alone, JSON.stringify(options));
  }
});

test('a search that is stopped again and again comes to the same, whoever goes on with it', async () => {
  for (const options of SEARCHES) {
    // For a search that draws orders, `max` is the number of draws and does not stop it early.
    if (options.max !== undefined || options.algorithm === 'random') continue;
    const wanted = totalsOf(await explore(options));
    let last = await explore({ ...options, max: 1 });
    for (let n = 1; last.resume !== null; n++) {
      const resume = JSON.parse(JSON.stringify(last.resume)) as ResumeFile;
      last = await explore({ scenario: '', resume, max: last.executions * 3, workers: 1 + (n % 2) });
    }
    assert.deepEqual(totalsOf(last), wanted, JSON.stringify(options));
  }
});

test('a signal stops a search, which says how to go on', async () => {
  const stop = new AbortController();
  const scenario = 'revoke-vs-detach:3';
  const onProgress = ({ executions, total, seconds, done }: ExploreProgress): void => {
    // The estimate is there before the first order is.
    if (executions === 0) return;
    assert.ok(done > 0 && done < 1 && total > executions && seconds > 0, `${done} of ${total}`);
    stop.abort();
  };
  const first = await explore({ scenario, workers: 2, signal: stop.signal, onProgress });
  assert.deepEqual([first.complete, first.bug], [false, null]);
  assert.ok(first.resume!.totals.executions === first.executions && first.executions > 0);
  const next = await explore({ scenario: '', resume: first.resume!, max: first.executions + 10 });
  assert.equal(next.executions, first.executions + 10);
  assert.ok(next.seconds > first.seconds, 'the time adds up');
});

test('what was written down of another program is refused', async () => {
  const { resume } = await explore({ scenario: 'revoke-vs-map', max: 3 });
  const search = makeSearch(findProgram('revoke-vs-unmap'), resume!.spec);
  restoreSearch(search, resume!);
  assert.throws(() => search.advance(1), StaleStateError);
});

test('the program is run in bounded memory', async () => {
  const used: number[] = [];
  const options = { scenario: 'revoke:5', max: 200_000 };
  await explore({ ...options, onProgress: () => used.push(process.memoryUsage().heapUsed) });
  const most = (part: number[]): number => Math.max(...part) / 2 ** 20;
  const half = used.length >> 1;
  assert.ok(half > 0, 'the search is long enough to look twice');
  assert.ok(most(used.slice(half)) < most(used.slice(0, half)) + 100, `${used.map((bytes) => bytes >> 20)} MiB`);
});
