/** The comparison of `barter lab run guest-capture`, without a guest: what QEMU takes away is expected, and only that. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { asAttached, differencesOf } from '../../lab/capture/compare.ts';
import { captureMachine } from '../../src/machine/capture.ts';
import { CapturedConfig } from '../../src/machine/captured-config.ts';
import type { CapturedDescription } from '../../src/machine/check/captured.ts';
import { formatConfigText, parseConfigText } from '../../src/machine/config-text.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { parseLspci } from '../../src/machine/lspci.ts';

const igb = readFileSync(new URL('../machine/dumps/igb.txt', import.meta.url), 'utf8');
const [device] = parseMachine(captureMachine(parseLspci(igb)), 'igb').devices as CapturedDescription[];

const configOf = ({ config }: CapturedDescription): Buffer => Buffer.from(parseConfigText(config));
const idsOf = (config: Buffer): string[] =>
  new CapturedConfig(config).capabilities().map(({ id, extended }) => `${extended ? 'x' : ''}${id.toString(16)}`);

test('a guest sees a card alone in its slot, without ARI and SR-IOV', () => {
  const [before, after] = [configOf(device), configOf(asAttached(device))];
  assert.deepEqual(idsOf(before), ['1', '5', '11', '10', 'x1', 'x3', 'xe', 'x10']);
  assert.deepEqual(idsOf(after), ['1', '5', '11', '10', 'x1', 'x3']);
  assert.deepEqual([before[0x0e], after[0x0e]], [0x80, 0]);
  assert.deepEqual(differencesOf(device, asAttached(device)), []);
});

/** What differs when the second capture is other than expected in one thing. */
function told(change: (config: Buffer) => void, fields: Partial<CapturedDescription> = {}): string[] {
  const second = { ...asAttached(device), ...fields };
  const config = configOf(second);
  change(config);
  return differencesOf(device, { ...second, config: formatConfigText(config) }).map((line) => line.split(':')[0]);
}
const nothing = (): void => {};

test('a register, a BAR, the ROM, and a capability more or less are differences', () => {
  assert.deepEqual(told(nothing), []);
  assert.deepEqual(
    told((config) => config.writeUInt8(0x99, 0x08)),
    ['0x8'],
  );
  assert.equal(told(nothing, { bars: device.bars.slice(1) })[0], 'BARs');
  assert.deepEqual(told(nothing, { romSize: 2048 }), ['ROM']);
  // MSI at 0x50 is left out.
  assert.deepEqual(
    told((config) => config.writeUInt8(0x70, 0x41)),
    ['capabilities', '0x40'],
  );
  assert.deepEqual(
    told((config) => config.writeUInt32LE(0x15010003, 0x140)),
    ['capabilities', '0x140'],
  );
});
