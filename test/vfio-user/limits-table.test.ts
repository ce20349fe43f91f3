/** docs/limits.md has the limits of the code, and each row has its test. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MAX_LOG_BLOCKS, MAX_LOG_RANGES } from '../../src/vfio/dma-logging.ts';
import { MAX_SECTION_BYTES } from '../../src/vfio/migration-stream.ts';
import { IMPORTER_LIMITS, IMPORTER_TIMEOUT_MS } from '../../src/vfio-user/dma-buf/limits.ts';
import { COUNTED_LIMITS } from '../../src/vfio-user/monitor/counters.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';

const src = new URL('../../src/', import.meta.url);
const ALL = { ...LIMITS, ...IMPORTER_LIMITS, MAX_LOG_BLOCKS, MAX_LOG_RANGES, MAX_SECTION_BYTES };
const page = readFileSync(new URL('../../docs/limits.md', import.meta.url), 'utf8');
const rows = page
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.split('|').map((cell) => cell.trim()));

test('the table has every limit, with its value, and no other', () => {
  const table = rows.map(([, name, value]) => [name.replaceAll('`', ''), Number(value.replaceAll(',', ''))]);
  assert.deepEqual(Object.fromEntries(table), ALL);
  assert.equal(table.length, Object.keys(ALL).length);
  assert.ok(page.includes(`(${IMPORTER_TIMEOUT_MS.toLocaleString('en')} ms)`));
});

test('each limit that turns a peer away is counted where it does', () => {
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const text = files
    .filter((name) => !name.endsWith('counters.ts'))
    .map((name) => readFileSync(new URL(name, src), 'utf8'))
    .filter((source) => source.includes('/limit-hits.ts'))
    .join('\n');
  for (const name of COUNTED_LIMITS) assert.ok(text.includes(`'${name}'`), `${name} is not counted`);
  const periods = Object.keys(ALL).filter((name) => !COUNTED_LIMITS.includes(name));
  assert.deepEqual(periods, ['clientRoundMs', 'clientRoundMsOfAll', 'logWindowMs']);
});

test('each row names a test that there is', () => {
  for (const [, name, , , , where] of rows) {
    const [file, title] = where.split(': ');
    const source = readFileSync(new URL(file, import.meta.url), 'utf8');
    assert.match(source, new RegExp(`^test\\('[^']*${title}`, 'm'), `${name}: ${file} has no test "${title}"`);
  }
});

test('each fault of hostile loads names tests that there are', () => {
  const faults = page.split('\n').filter((line) => /^\| \d+ \|/.test(line));
  assert.ok(faults.length >= 11);
  for (const fault of faults) {
    const [, number, , tests] = fault.split('|').map((cell) => cell.trim());
    const named = [...tests.matchAll(/([\w/-]+\.test\.ts): (.*?)(?=\. [\w/-]+\.test\.ts|$)/g)];
    assert.ok(named.length > 0, `fault ${number} names no test`);
    for (const [, file, titles] of named) {
      const source = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
      for (const title of titles.split('; ')) {
        assert.match(source, new RegExp(`^test\\(\\s*['"\`][^'"\`]*${title}`, 'm'), `${number}: ${file}: ${title}`);
      }
    }
  }
});
