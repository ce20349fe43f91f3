/** The comparison of `barter lab run capabilities`, without a guest: it agrees with itself, and finds differences. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConfigAnswers } from '../../lab/agent/config-accesses.ts';
import { accessesOf, answersOfEngine, type Laid, layOut } from '../../lab/capabilities/accesses.ts';
import { compareDevice } from '../../lab/capabilities/compare.ts';
import { CAPABILITY_DEVICES } from '../../lab/capabilities/devices.ts';
import { Steps } from '../../lab/runs/run.ts';
import { EXTENDED_CAPABILITIES } from '../../src/vfio/perms/extended.ts';
import { STANDARD_CAPABILITIES } from '../../src/vfio/perms/standard.ts';

/** A guest whose hardware is the served device, and whose vfio-pci is the engine. */
function guestOf({ config }: Laid, accesses: ReturnType<typeof accessesOf>): ConfigAnswers {
  const opened = Buffer.from(config.snapshot());
  for (let at = 0x40; at < opened.length; at++) config.write(at, 1, 0xff);
  const ones = Buffer.from(config.snapshot());
  for (let at = 0x40; at < opened.length; at++) config.write(at, 1, 0);
  const zeros = Buffer.from(config.snapshot());
  for (const [at, byte] of opened.entries()) config.set(at, 1, byte);
  const guest = {
    ones: ones.toString('hex'),
    zeros: zeros.toString('hex'),
    opened: opened.toString('hex'),
    answers: [],
  };
  return { ...guest, answers: answersOfEngine(guest, accesses) };
}

test('a guest that answers as the engine agrees in every capability, and one wrong answer shows', () => {
  for (const spec of CAPABILITY_DEVICES) {
    const laid = layOut(spec);
    const accesses = accessesOf(laid.capabilities, laid.config.sizeBytes);
    const guest = guestOf(laid, accesses);
    const good = new Steps(() => {});
    compareDevice(good, laid, accesses, guest);
    assert.deepEqual(
      good.all.filter(({ ok }) => !ok),
      [],
    );
    assert.equal(good.all.length, 1 + laid.capabilities.length);
    const { start } = laid.capabilities[3];
    const wrong = accesses.findIndex(([offset, size, value]) => offset === start + 2 && size === 1 && value === null);
    guest.answers[wrong] = Number(guest.answers[wrong]) ^ 0x10;
    const bad = new Steps(() => {});
    compareDevice(bad, laid, accesses, guest);
    assert.deepEqual(
      bad.all.flatMap(({ ok }, i) => (ok ? [] : [i])),
      [4],
    );
  }
});

test('the devices have every id that vfio shows, and each that it hides', () => {
  const ids = (kind: 'standard' | 'extended') =>
    new Set(CAPABILITY_DEVICES.flatMap((spec) => spec[kind].map(({ id }) => id)));
  const standard = ids('standard').add(0x03);
  const extended = ids('extended');
  for (const id of STANDARD_CAPABILITIES.keys()) assert.ok(standard.has(id), `0x${id.toString(16)}`);
  for (const id of EXTENDED_CAPABILITIES.keys()) assert.ok(extended.has(id), `extended 0x${id.toString(16)}`);
  for (let id = 0; id <= 0x14; id++) assert.ok(standard.has(id), `0x${id.toString(16)}`);
  for (let id = 1; id <= 0x31; id++) assert.ok(extended.has(id), `extended 0x${id.toString(16)}`);
});
