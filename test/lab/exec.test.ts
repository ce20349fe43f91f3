/** barter lab exec, as a user and `git bisect run` use it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { missingStages } from '../../lab/host/prepare.ts';
import { BIN, barter, spawnBarter } from '../cli/barter.ts';
import { checkKtap, junitErrors } from '../report/formats.ts';

const missing = missingStages();
const skip = missing.length > 0 ? `the lab is not prepared (${missing.join(', ')}): barter lab prepare` : false;
const folder = mkdtempSync(join(tmpdir(), 'barter-exec-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const PROMPT = /[#$] $/m;

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

test('the driver of the guide passes its test, and each planted bug is found', { skip }, async () => {
  const built = barter('lab', 'build-module', 'examples/driver');
  assert.equal(built.status, 0, built.stderr);
  const run = (module: string, report: string) => {
    const device = ['--device', 'examples/checksum.ts', '--module', `examples/driver/${module}.ko`];
    return exec(...device, '--timeout', '120', '--report', report, '--', 'examples/driver/test.sh');
  };
  const good = run('checksum', 'ktap');
  assert.equal(good.status, 0, good.stderr);
  const { pass, ...others } = checkKtap(good.stdout);
  assert.ok(pass > 3, good.stdout);
  assert.deepEqual(others, { fail: 0, skip: 0 });
  const missed = run('checksum-missed-interrupt', 'ktap');
  assert.equal(missed.status, 1, missed.stderr);
  // The first sum takes the only interrupt. Four later ones time out.
  assert.deepEqual(checkKtap(missed.stdout), { pass: 2, fail: 4, skip: 0 });
  assert.match(missed.stdout, /not ok 2 a page/);
  const stale = run('checksum-use-after-reset', `junit=${join(folder, 'report.xml')}`);
  assert.notEqual(stale.status, 0, stale.stderr);
  const report = readFileSync(join(folder, 'report.xml'), 'utf8');
  assert.match(report, /<failure /);
  assert.deepEqual(await junitErrors([report]), []);
});

test('a debugger stops the guest before its first instruction, and lets it go on', { skip }, async () => {
  const child = spawnBarter('lab', 'exec', '--accel', 'tcg', '--gdb', '--', 'uname', '-r');
  const output = text(child.stdout!);
  const port = await new Promise<number>((resolve) => {
    let said = '';
    child.stderr!.on('data', (part) => {
      said += part;
      const match = /target remote :(\d+)/.exec(said);
      if (match !== null) resolve(Number(match[1]));
    });
  });
  const stub = await connected(port);
  stub.write('+$?#3f');
  const [stopped] = await once(stub, 'data');
  assert.match(String(stopped), /\$T05/);
  stub.write('+$c#63');
  assert.match(await output, /^\d+\.\d+\S*\n$/);
  stub.destroy();
});

/** QEMU listens soon after the command said so. */
async function connected(port: number): Promise<Socket> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isConnected = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    if (isConnected) return socket;
    await sleep(50);
  }
}

test('without a command, a terminal gets a shell with a terminal of its own', { skip }, async () => {
  const command = `'${process.execPath}' '${BIN}' lab exec --accel tcg`;
  const child = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
  let seen = '';
  child.stdout.on('data', (part) => {
    const hadPrompt = PROMPT.test(seen);
    seen += part;
    // Before its prompt the shell does not read what is typed.
    if (!hadPrompt && PROMPT.test(seen)) child.stdin.write('tty; uname -r; exit 3\n');
  });
  const [status] = await once(child, 'exit');
  assert.equal(status, 3, seen);
  assert.match(seen, /\/dev\/hvc0/);
});

test('the shell of the lab has the lender bound to vfio-pci', { skip }, () => {
  const driver = 'basename $(readlink /sys/bus/pci/devices/$BARTER_DEVICE_LENDER/driver)';
  const { status, stdout, stderr } = barter('lab', 'shell', '--accel', 'tcg', `${driver}; exit 7`);
  assert.equal(status, 7, stderr);
  assert.equal(stdout, 'vfio-pci\n');
});
