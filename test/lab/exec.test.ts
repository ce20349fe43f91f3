/** barter lab exec, as a user and `git bisect run` use it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { barter } from '../cli/barter.ts';

const missing = missingStages();
const skip = missing.length > 0 ? `the lab is not prepared (${missing.join(', ')}): barter lab prepare` : false;
const folder = mkdtempSync(join(tmpdir(), 'barter-exec-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const exec = (...args: string[]) => barter('lab', 'exec', '--accel', 'tcg', ...args);

test('the output is the command’s, and so is the status', { skip }, () => {
  const { status, stdout } = exec('--json', '--', 'sh', '-c', 'uname -r; echo err > /dev/stderr; exit 7');
  const document = JSON.parse(stdout);
  assert.equal(status, 7);
  assert.equal(document.status, 7);
  assert.equal(document.stdout, `${document.kernel}\n`);
  assert.equal(document.stderr, 'err\n');
  assert.equal(document.accel, 'tcg');
  assert.match(document.qemu, /^\d+\.\d+/);
  assert.deepEqual(document.reports, []);
});

test('the guest reads files of the host, and writes to what is shared', { skip }, () => {
  writeFileSync(join(folder, 'from'), 'bytes of the host\n');
  const script = `cp ${folder}/from ${folder}/to && ! touch /etc/barter && echo $BARTER_DEVICE_LENDER && lspci -nn`;
  const machine = 'examples/two-peers.yaml';
  const { status, stdout, stderr } = exec('--machine', machine, '--share', folder, '--', 'sh', '-c', script);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^0000:01:00\.0$/m);
  assert.match(stdout, /^01:00\.0 .*\[1b36:0b01\]/m);
  assert.equal(readFileSync(join(folder, 'to'), 'utf8'), 'bytes of the host\n');
});

test('a guest that does not come up is 125, one that takes too long is 124', { skip }, () => {
  const console = join(folder, 'console');
  const dead = exec('--append', 'rdinit=/nothing root=/dev/nothing', '--console', console, '--', 'true');
  assert.equal(dead.status, 125, dead.stderr);
  assert.match(readFileSync(console, 'utf8'), /Kernel panic/);
  const slow = exec('--timeout', '1', '--', 'sleep', '1000');
  assert.equal(slow.status, 124, slow.stderr);
  assert.match(slow.stderr, /did not end within 1 s/);
});

test('what cannot be is said before anything boots, with status 2', () => {
  for (const [args, said] of [
    [['--kernel', 'nothing-such'], /there is no kernel nothing-such; there are: distribution, iommufd, debug/],
    [['--kernel', folder], /is not a kernel build tree: it has no \.config/],
    [['--kernel', 'package.json'], /is neither a bzImage nor a vmlinux/],
    [['--memory', 'much'], /--memory much is not a size/],
    [['--report', 'xml'], /--report xml is not a report/],
  ] as const) {
    const { status, stderr } = exec(...args, '--', 'true');
    assert.equal(status, 2, stderr);
    assert.match(stderr, said);
  }
});

test('the driver of the guide passes its test, and each planted bug is found', { skip }, () => {
  const built = barter('lab', 'build-module', 'examples/driver');
  assert.equal(built.status, 0, built.stderr);
  const run = (module: string, report: string) => {
    const device = ['--device', 'examples/checksum.ts', '--module', `examples/driver/${module}.ko`];
    return exec(...device, '--timeout', '30', '--report', report, '--', 'examples/driver/test.sh');
  };
  const good = run('checksum', 'ktap');
  assert.equal(good.status, 0, good.stderr);
  assert.match(good.stdout, /^KTAP version 1\n1\.\.1\n/);
  assert.doesNotMatch(good.stdout, /not ok/);
  const missed = run('checksum-missed-interrupt', 'ktap');
  assert.equal(missed.status, 1, missed.stderr);
  assert.match(missed.stdout, /not ok 2 a page/);
  const stale = run('checksum-use-after-reset', `junit=${join(folder, 'report.xml')}`);
  assert.notEqual(stale.status, 0, stale.stderr);
  assert.match(readFileSync(join(folder, 'report.xml'), 'utf8'), /<failure /);
});
