import assert from 'node:assert/strict';
import { test } from 'node:test';
import { barter } from './barter.ts';

test('help names every command and exits with 0', () => {
  const { status, stdout } = barter('--help');
  assert.equal(status, 0);
  for (const command of [
    'demo',
    'serve',
    'inspect',
    'capture',
    'devices',
    'run',
    'explore',
    'replay',
    'scenarios',
    'lab',
    'bench',
  ]) {
    assert.match(stdout, new RegExp(`^  ${command} `, 'm'));
  }
});

test('every command has help with examples', () => {
  for (const command of ['demo', 'serve', 'inspect', 'capture', 'devices', 'run', 'explore', 'replay', 'bench']) {
    const { status, stdout } = barter(command, '--help');
    assert.equal(status, 0, command);
    assert.match(stdout, /Examples?:\n {2}barter /, command);
  }
});
