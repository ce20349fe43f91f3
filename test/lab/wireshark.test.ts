/** A capture of a real QEMU's attach, dissected by tshark. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missingStages } from '../../lab/host/prepare.ts';
import { loadMachine } from '../../src/machine/load.ts';
import type { TappedMessage } from '../../src/vfio-user/wire/tap.ts';
import { barter } from '../cli/barter.ts';
import { captureFile } from '../report/capture-file.ts';
import { dissected } from '../report/dissected.ts';
import { skip as noTshark } from '../report/tshark.ts';
import { recordQemu } from '../vfio-user/record-qemu.ts';

const isCi = process.env.CI === 'true';
const missing = missingStages();
const noLab =
  missing.length > 0 && !isCi ? `the lab is not prepared (${missing.join(', ')}): barter lab prepare` : false;
const skip = noLab || noTshark;

before(() => {
  if (skip !== false) return;
  const { status, stderr } = barter('lab', 'prepare');
  assert.equal(status, 0, stderr);
});

test('every frame of an attach of QEMU is decoded, and every command has its reply', { skip }, async () => {
  const machine = loadMachine(fileURLToPath(new URL('../vfio-user/golden/machine.yaml', import.meta.url)));
  const messages: TappedMessage[] = [];
  await recordQemu(machine, (message) => void messages.push(message));
  const folder = mkdtempSync(join(tmpdir(), 'barter-attach-'));
  try {
    const path = join(folder, 'attach.pcapng');
    writeFileSync(path, captureFile(messages));
    const frames = dissected(path);
    const said = frames.filter((frame) => !frame.has('barter.ended'));
    assert.ok(said.length > 200, `${said.length} frames`);
    for (const [i, frame] of said.entries()) {
      const where = `frame ${i + 1}: ${frame.text('vfio_user.name')}`;
      for (const fault of ['unknown', 'short', 'wrong_size', 'unasked', 'failed']) {
        assert.equal(frame.has(`vfio_user.${fault}`), false, `${where}: ${fault}`);
      }
      const isReply = frame.number('vfio_user.type') === 1;
      const isPosted = !isReply && frame.text('vfio_user.no_reply') === '1';
      if (!isPosted) assert.ok(frame.has(isReply ? 'vfio_user.response_to' : 'vfio_user.response_in'), where);
    }
    const names = new Set(said.map((frame) => frame.text('vfio_user.name')));
    for (const name of ['VERSION', 'DMA_MAP', 'DEVICE_GET_REGION_INFO', 'DEVICE_SET_IRQS', 'REGION_READ']) {
      assert.ok(names.has(name), name);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
