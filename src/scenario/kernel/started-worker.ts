/** A thread that takes started steps on a real kernel: waits for a call, takes the step, writes the result. */
import { readlinkSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { OwnedFd } from '../../linux/fd.ts';
import { VfioDevice } from '../../linux/vfio/device.ts';
import { Runner } from '../../task/runner.ts';
import { asTask, outcome } from '../backend.ts';
import { isIn, type StepResult } from '../step.ts';
import { namelessStep } from './device.ts';
import { CALLED, DONE, HEADER_BYTES, LENGTH, STATE, type StartedCall, THREAD_ID } from './started.ts';
import { takeSysfsStep } from './sysfs-files.ts';

export function serveStartedSteps(): never {
  const { shared } = workerData as { shared: SharedArrayBuffer };
  const words = new Int32Array(shared);
  const bytes = new Uint8Array(shared);
  words[THREAD_ID] = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
  parentPort!.postMessage('ready');
  for (;;) {
    while (Atomics.load(words, STATE) !== CALLED) Atomics.wait(words, STATE, Atomics.load(words, STATE));
    const text = Buffer.from(bytes.slice(HEADER_BYTES, HEADER_BYTES + words[LENGTH])).toString('utf8');
    const result = Buffer.from(JSON.stringify(take(JSON.parse(text) as StartedCall)));
    bytes.set(result, HEADER_BYTES);
    Atomics.store(words, LENGTH, result.length);
    Atomics.store(words, STATE, DONE);
    Atomics.notify(words, STATE);
  }
}

function take({ step, address, deviceFd, groups }: StartedCall): StepResult {
  if (isIn('sysfs', step)) return new Runner().run(outcome(asTask(takeSysfsStep)(address, step)));
  const fd = new OwnedFd(deviceFd, address);
  try {
    const device = new VfioDevice(fd, address);
    return new Runner().run(outcome(namelessStep({ device, groups }, step)));
  } finally {
    if (fd.isOpen) fd.release();
  }
}
