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

test('wrong usage exits with 2 and says what is wrong', () => {
  for (const [args, message] of [
    [['frobnicate'], /unknown command 'frobnicate'/],
    [['run'], /missing required argument 'scenario'/],
    [['run', 'no-such-scenario'], /no-such-scenario/],
    [['run', 'memory-bit', '--profile', 'linux-2.6'], /linux-2\.6/],
    [['run', 'memory-bit', '--on', 'paper'], /paper/],
    [['serve', 'no-such-machine.yaml'], /no-such-machine\.yaml/],
    [['serve', 'examples/two-peers.yaml', '--profile', 'x'], /profile x/],
  ] as const) {
    const { status, stdout, stderr } = barter(...args);
    assert.equal(status, 2, `${args.join(' ')}: ${stderr}`);
    assert.match(stderr, message);
    assert.equal(stdout, '');
  }
});
