/** The conformance kit on Barter's own server: every rule holds, and the reports say what happened. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { GROUPS } from '../../src/conform/rule.ts';
import { RULES } from '../../src/conform/rules/catalogue.ts';
import { barter, endOf, startBarter } from '../cli/barter.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-conform-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const SERVE = ['--', process.execPath, 'bin/barter.cjs', 'serve'];

interface Rule {
  id: string;
  group: string;
  verdict: string;
  results: { device: string; verdict: string; text: string; exchange: { bytes: string }[] }[];
}

function judge(machine: string, ...options: string[]): { status: number | null; rules: Rule[]; stderr: string } {
  const words = ['conform', 'server', '--json', ...options, ...SERVE, machine, '--socket-dir', join(folder, 'sockets')];
  const { status, stdout, stderr } = barter(...words);
  return { status, stderr, rules: stdout === '' ? [] : JSON.parse(stdout).rules };
}

function faults(rules: readonly Rule[]): string[] {
  return rules
    .filter(({ verdict }) => ['broken', 'hangs', 'crashes'].includes(verdict))
    .map(({ id, verdict, results }) => `${id} ${verdict}: ${results.map(({ text }) => text).join('; ')}`);
}

test('every rule has a stable id, a sentence and a chapter', () => {
  assert.ok(RULES.length >= 180, `${RULES.length} rules`);
  assert.equal(new Set(RULES.map(({ id }) => id)).size, RULES.length);
  for (const { id, group, says, chapter } of RULES) {
    assert.match(id, new RegExp(`^${group}\\.[a-z0-9-]+$`));
    assert.match(says, /^[A-Z0-9_a-z].*\.$/s, id);
    assert.notEqual(chapter, '', id);
  }
  assert.deepEqual(
    Object.keys(GROUPS).filter((group) => !RULES.some((rule) => rule.group === group)),
    [],
  );
});

test('no rule is broken on the two devices of the example', () => {
  const { status, rules, stderr } = judge('examples/two-peers.yaml');
  assert.deepEqual(faults(rules), []);
  assert.deepEqual([status, rules.length], [0, RULES.length], stderr);
  // A rule that is never tried protects nothing: of all groups, most are tried.
  assert.ok(rules.filter(({ verdict }) => verdict === 'holds').length > 0.9 * rules.length);
  assert.ok(rules.every(({ results }) => results.length === 2));
});

test('no rule is broken on a device with INTx, MSI, I/O ports and a table in its memory', () => {
  const { status, rules, stderr } = judge('test/conform/odd.yaml');
  assert.deepEqual(faults(rules), []);
  assert.equal(status, 0, stderr);
  const tried = rules.filter(({ verdict }) => verdict !== 'not-applicable').map(({ id }) => id);
  for (const id of ['irq.mask-intx', 'irq.msi-count', 'region.sparse-inside', 'config.msi-and-irqs']) {
    assert.ok(tried.includes(id), id);
  }
});

test('a server that runs already is judged by its socket, and stays', async () => {
  const dir = join(folder, 'running');
  const { child } = await startBarter('serve', 'examples/two-peers.yaml', '--socket-dir', dir);
  const socket = join(dir, 'lender.sock');
  const html = join(folder, 'report.html');
  const words = ['--group', 'info', '--rule', 'header.no-reply', '--html', html, '--socket', socket];
  const { status, stdout, stderr } = barter('conform', 'server', ...words);
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(stdout, /^device info +0 +0 +0 +1 +\d+ +0$/m);
  const page = readFileSync(html, 'utf8');
  for (const text of ['header.no-reply', 'info.argsz-0', '1&gt; VERSION', '1&lt; DEVICE_GET_INFO reply, EINVAL']) {
    assert.ok(page.includes(text), text);
  }
  const ktap = barter('conform', 'server', '--group', 'info', '--report', 'ktap', '--socket', socket);
  assert.match(ktap.stdout, /^KTAP version 1\n1\.\.1\n {2}KTAP version 1\n {2}# Subtest: device info\n/);
  assert.doesNotMatch(ktap.stdout, /not ok/);
  assert.equal(await endOf(child, 'SIGTERM'), 0);
});
