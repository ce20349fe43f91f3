import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fairLimit, runDelayMs } from '../../lab/host/fair-limit.ts';

test('a limit is over when its time has passed, and not if it was taken away', async () => {
  const [over, taken] = [[] as string[], [] as string[]];
  const ended = new Promise<void>((resolve) =>
    fairLimit(
      150,
      () => 0,
      () => resolve(void over.push('over')),
    ),
  );
  fairLimit(
    20,
    () => 0,
    () => taken.push('over'),
  )();
  await ended;
  assert.deepEqual([over, taken], [['over'], []]);
});

test('time that a guest waited for the host does not count', async () => {
  let waitedMs = 1000;
  const startedMs = performance.now();
  const ended = new Promise<number>((resolve) => {
    fairLimit(
      100,
      () => waitedMs,
      () => resolve(performance.now() - startedMs),
    );
  });
  waitedMs += 300;
  assert.ok((await ended) >= 399);
});

test('a thread that ends with its time does not shorten the limit', async () => {
  let waitedMs = 1000;
  const startedMs = performance.now();
  const ended = new Promise<number>((resolve) => {
    fairLimit(
      200,
      () => waitedMs,
      () => resolve(performance.now() - startedMs),
    );
  });
  waitedMs = 0;
  assert.ok((await ended) >= 199);
});

test('two threads on one processor wait for each other, and a process that is gone waits for nothing', async () => {
  const [, processor] = /^Cpus_allowed_list:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))!;
  const spin = ['-c', processor, process.execPath, '-e', 'for (;;);'];
  const children = [spawn('taskset', spin), spawn('taskset', spin)];
  try {
    const pid = children[0].pid;
    while (runDelayMs(pid) < 50) {
      assert.equal(children[0].exitCode, null);
      await sleep(20);
    }
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(children.map((child) => once(child, 'close')));
  }
  assert.equal(runDelayMs(children[0].pid), 0);
});
