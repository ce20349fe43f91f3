/** Numbers of calls: unique while a reply may come, and honest about replies that nobody asked for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallIds } from '../../../src/vfio-user/client/call-ids.ts';
import type { Frame } from '../../../src/vfio-user/wire/frame.ts';

const [INFO, RESET] = [4, 13];
const MAX_OWED = 1024;
const reply = (id: number, command: number) => ({ id, command }) as Frame;

test('a reply is for the call of its number and command; a late one is for nobody, once', () => {
  const ids = new CallIds('peer');
  const [first, second] = [ids.take(INFO), ids.take(RESET)];
  assert.notEqual(first, second);
  assert.equal(ids.match(reply(second, RESET)), second);
  ids.end(second, false);
  assert.throws(() => ids.match(reply(second, RESET)), /EPROTO.*nobody asked for/);
  assert.throws(() => ids.match(reply(first, RESET)), /EPROTO.*had command 4/);
  ids.end(first, true);
  assert.throws(() => ids.match(reply(first, RESET)), /EPROTO.*had command 4/);
  assert.equal(ids.match(reply(first, INFO)), null);
  assert.throws(() => ids.match(reply(first, INFO)), /EPROTO.*nobody asked for/);
});

test('a number whose reply may still come is given out to no other call, and to no message without a reply', () => {
  const ids = new CallIds('peer');
  const waits = ids.take(INFO);
  const owed = ids.take(RESET);
  ids.end(owed, true);
  for (let i = 0; i < 2 * 65_536; i++) assert.ok(![waits, owed].includes(ids.post()));
  assert.equal(ids.match(reply(owed, RESET)), null);
  const seen = new Set(Array.from({ length: 65_536 }, () => ids.post()));
  assert.ok(seen.has(owed), 'it is free again');
  assert.ok(!seen.has(waits));
});

test('a server that owes too many replies is dead; too many calls at once are refused, and an end makes room', () => {
  const ids = new CallIds('peer');
  const taken = Array.from({ length: MAX_OWED }, () => ids.take(INFO));
  assert.throws(() => ids.take(INFO), /ENOBUFS/);
  ids.end(taken[0], false);
  const next = ids.take(INFO);
  for (const id of [...taken.slice(1), next]) ids.end(id, true);
  assert.throws(() => ids.take(INFO), /ETIMEDOUT.*owes 1024/);
  assert.equal(ids.match(reply(next, INFO)), null);
  ids.take(INFO);
});
