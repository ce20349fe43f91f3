/** Which handlers run in a round of the loop, and which wait for the next. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EPOLLIN } from '../../../src/abi/poll.ts';
import { createEventfd, signalEventfd } from '../../../src/linux/eventfd.ts';
import { EventLoop } from '../../../src/vfio-user/wire/event-loop.ts';

/** A clock that stands still unless a handler works. */
function withClock(body: (work: (ms: number) => void) => void): void {
  const real = performance.now;
  let now = real.call(performance);
  performance.now = () => now;
  try {
    body((ms) => {
      now += ms;
    });
  } finally {
    performance.now = real;
  }
}

test('handlers that may wait share a part of each round, in turns; the others run in every round', () =>
  withClock((work) => {
    const loop = new EventLoop();
    const ready = createEventfd();
    signalEventfd(ready.fd);
    const fds = Array.from({ length: 40 }, () => ready.duplicate());
    const runs = fds.map(() => 0);
    for (const [i, { fd }] of fds.entries()) {
      loop.addPatient(fd, EPOLLIN, () => {
        runs[i] += 1;
        work(10);
      });
    }
    let urgent = 0;
    const last = ready.duplicate();
    loop.add(last.fd, EPOLLIN, () => {
      urgent += 1;
    });
    const rounds = 40;
    let longestMs = 0;
    for (let i = 0; i < rounds; i++) {
      const start = performance.now();
      loop.turn(0);
      longestMs = Math.max(longestMs, performance.now() - start);
    }
    assert.equal(urgent, rounds);
    assert.ok(longestMs >= 50 && longestMs <= 60, `${longestMs} ms`);
    assert.ok(Math.max(...runs) - Math.min(...runs) <= 1, `each has its turns: ${runs}`);
    loop.close();
    for (const fd of [ready, last, ...fds]) fd.close();
  }));
