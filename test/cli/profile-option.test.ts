import assert from 'node:assert/strict';
import { test } from 'node:test';
import { profileOf } from '../../src/cli/profile-option.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

test('a profile by its name, and `next` with other feature numbers', () => {
  assert.equal(profileOf('linux-7.3'), PROFILES['linux-7.3']);
  assert.deepEqual(profileOf('next').proposed, { revoke: 14, tph: 15 });
  assert.deepEqual(profileOf('next:tph=200').proposed, { revoke: 14, tph: 200 });
  assert.deepEqual(profileOf('next:revoke=16,tph=17').proposed, { revoke: 16, tph: 17 });
});

test('a number that a feature of Linux 7.3 has, two of one number, and what is not a number, are refused', () => {
  for (const text of ['next:revoke=13', 'next:revoke=65536', 'next:revoke=15', 'next:', 'next:mmap=20', 'next:tph=x']) {
    assert.throws(() => profileOf(text), /--profile next:/, text);
  }
  assert.throws(() => profileOf('default:revoke=20'), /only next has feature numbers/);
  assert.throws(() => profileOf('nex'), /there is no profile nex/);
});
