import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseMachine } from '../../src/machine/load.ts';
import { barter, ROOT } from './barter.ts';

const DUMPS = 'test/machine/dumps';

test('capture --lspci makes a machine of a file or of stdin, of all devices or of those that are named', () => {
  const whole = barter('capture', '--lspci', `${DUMPS}/igbvf.txt`);
  assert.deepEqual([whole.status, whole.stderr], [0, '']);
  assert.equal(parseMachine(whole.stdout, 'captured.yaml').devices.length, 3);
  const input = readFileSync(join(ROOT, DUMPS, 'igbvf.txt'));
  const args = [join(ROOT, 'bin/barter.cjs'), 'capture', '--lspci', '-', '09:10.2', '--json'];
  const one = spawnSync(process.execPath, args, { input, encoding: 'utf8' });
  assert.deepEqual([one.status, one.stderr], [0, '']);
  const [device] = JSON.parse(one.stdout).devices;
  assert.deepEqual([device.name, device.vendor, device.device], ['pci-0000-09-10.2', 0x8086, 0x10ca]);
});

test('what cannot be captured is wrong usage, in one line that names the reason and the next step', () => {
  for (const [args, message] of [
    [[], /capture wants a PCI address .*, or --lspci FILE/],
    [['nonsense'], /nonsense is no PCI address|nonsense is not a PCI address/],
    [['0000:7f:1f.7'], /no PCI device 0000:7f:1f\.7; there are: /],
    [['--lspci', DUMPS], /dumps: this is a folder; name a file in it/],
    [['--lspci', 'missing.txt'], /missing\.txt: there is no such file/],
    [['--lspci', 'README.md'], /README\.md: this is not the output of lspci; run lspci -vvv -xxxx/],
    [['--lspci', `${DUMPS}/off.txt`], /0000:01:00\.0: every byte reads ff: .*capture again/],
    [['--lspci', `${DUMPS}/igb.txt`, '01:00.0'], /0000:01:00\.0 is not in the text; there are: 0000:09:00\.0/],
  ] as const) {
    const { status, stdout, stderr } = barter('capture', ...args);
    assert.deepEqual([status, stdout], [2, ''], stderr);
    assert.match(stderr, message);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  }
});
