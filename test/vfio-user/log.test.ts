import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventLoop } from '../../src/vfio-user/wire/event-loop.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { type LogAbout, LogLimiter } from '../../src/vfio-user/wire/log.ts';

const about = (client: string, cause = 'dropped'): LogAbout => ({ level: 'warn', cause, client });

function limited(): { limiter: LogLimiter; lines: string[]; loop: EventLoop } {
  const loop = new EventLoop();
  const lines: string[] = [];
  return { loop, lines, limiter: new LogLimiter(loop, (line) => lines.push(line)) };
}

test('a client that loops is cut, others and other causes are not; the end of the window says how much was cut', () => {
  const { limiter, lines } = limited();
  for (let i = 0; i < 5000; i++) limiter.log('loop', about('a'));
  limiter.log('other cause', about('a', 'defect'));
  limiter.log('other client', about('b'));
  assert.equal(lines.filter((line) => line === 'loop').length, LIMITS.maxLogLines);
  assert.deepEqual(lines.slice(-2), ['other cause', 'other client']);
  limiter.close();
  assert.equal(lines.at(-1), `a: ${5000 - LIMITS.maxLogLines} more lines in 10 s (dropped)`);
  limiter.log('again', about('a'));
  assert.equal(lines.at(-1), 'again', 'a new window');
  limiter.close();
});

test('lines of all clients are limited together, and so is what is kept of them', () => {
  const { limiter, lines, loop } = limited();
  const most = LIMITS.maxLogLinesOfAll;
  for (let i = 0; i < 10 * most; i++) limiter.log('line', about(`client ${i}`));
  assert.equal(lines.length, most);
  limiter.close();
  assert.equal(lines.at(-1), `${9 * most} more lines in 10 s, of all clients`);
  assert.equal(loop.turn(0), false);
});
