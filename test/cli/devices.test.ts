import assert from 'node:assert/strict';
import { test } from 'node:test';
import { barter } from './barter.ts';

test('devices lists the models, and the properties of one with their defaults', () => {
  const all = barter('devices');
  assert.equal(all.status, 0);
  assert.match(all.stdout, /^memory\n {6}BARs of plain bytes: what a device lends\.\nioat\n/);
  const { stdout } = barter('devices', 'memory');
  assert.match(stdout, /^ {2}vendor=<0\.\.0xffff>\n {6}Vendor id\. .*\(default: 0x1b36\)$/m);
  assert.match(stdout, /^ {2}capabilities\.msix\.vectors=<1\.\.2048>\n {6}.*\(required\)$/m);
  assert.deepEqual(
    stdout.split('\n').filter((line) => line.length > 80),
    [],
  );
});

test('devices --json is one document, and an unknown model is wrong usage that names the known ones', () => {
  const { models } = JSON.parse(barter('devices', '--json').stdout);
  assert.deepEqual(
    models.map(({ model }: { model: string }) => model),
    ['memory', 'ioat', 'virtio-gpu', 'captured'],
  );
  const { status, stderr } = barter('devices', 'gpu');
  assert.deepEqual(
    [status, stderr],
    [2, 'barter: there is no model gpu; there are: memory, ioat, virtio-gpu, captured\n'],
  );
});
