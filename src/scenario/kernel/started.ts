/**
 * Steps in separate tasks, on a real kernel: each is taken by a thread. A thread is either blocked or only slow; the
 * kernel function that it sleeps in tells which.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { Errno } from '../../abi/errno.ts';
import { refusal } from '../backend.ts';
import { MAX_STARTED, type StepOf, type StepResult } from '../step.ts';
import { DEVICE_GOES } from '../sysfs-schema.ts';

/** A call to a thread, in JSON: the step, and the descriptors that it works on. The caller owns the descriptors. */
export interface StartedCall {
  step: StepOf<'start'>['step'];
  address: string;
  deviceFd: number;
  groups: { id: number; fd: number }[];
}

/** The words of the memory that a thread shares with its owner. The rest holds the call, then the result. */
export const STATE = 0;
export const THREAD_ID = 1;
export const LENGTH = 2;
export const HEADER_BYTES = 16;
const SHARED_BYTES = 64 * 1024;
const IDLE = 0;
export const CALLED = 1;
export const DONE = 2;

const POLL_MS = 10;
/** The number of polls that find a thread asleep in one place before it counts as blocked. */
const STILL_POLLS = 6;
/**
 * As STILL_POLLS, for steps that wait for a device's user. The driver looks again and again whether the user has closed
 * it, so only the length of that wait tells it from a sleep. Taking virtual functions away sleeps for a second.
 */
const TIMED_STILL_POLLS = 150;
/** The most polls. A reset also sleeps for a while, but never for as long as this. */
const MAX_POLLS = 1000;
/** Kernel functions that sleep for a time, or for the hardware: a thread in them is slow, not blocked. */
const SLEEPS = /sleep|delay|timeout|^pci_(?!lock_)|^pcie|^$|^0$/;

class Thread {
  readonly worker: Worker;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  /** The call waits for a device's user. */
  private isTimed = false;

  constructor(worker: Worker, shared: SharedArrayBuffer) {
    this.worker = worker;
    this.words = new Int32Array(shared);
    this.bytes = new Uint8Array(shared);
  }

  get isDone(): boolean {
    return Atomics.load(this.words, STATE) !== CALLED;
  }

  call(call: StartedCall): void {
    this.isTimed = DEVICE_GOES.has(call.step.op);
    const text = Buffer.from(JSON.stringify(call));
    this.bytes.set(text, HEADER_BYTES);
    Atomics.store(this.words, LENGTH, text.length);
    Atomics.store(this.words, STATE, CALLED);
    Atomics.notify(this.words, STATE);
  }

  takeResult(): StepResult {
    const text = Buffer.from(this.bytes.slice(HEADER_BYTES, HEADER_BYTES + Atomics.load(this.words, LENGTH)));
    Atomics.store(this.words, STATE, IDLE);
    return JSON.parse(text.toString('utf8')) as StepResult;
  }

  /**
   * Waits until the call is done, or sleeps where only another task can wake it. With `quick`, a step that waits for a
   * user counts as blocked as soon as any other does.
   */
  settle(quick = false): void {
    let last = '';
    let still = 0;
    const enough = this.isTimed && !quick ? TIMED_STILL_POLLS : STILL_POLLS;
    for (let polls = 0; polls < MAX_POLLS; polls++) {
      if (Atomics.wait(this.words, STATE, CALLED, POLL_MS) !== 'timed-out') return;
      const where = this.sleepsIn();
      still = where === last && (this.isTimed || !SLEEPS.test(where)) ? still + 1 : 0;
      last = where;
      if (still >= enough) return;
    }
  }

  /** The kernel function that the thread sleeps in, as /proc says; '0' while it runs. */
  private sleepsIn(): string {
    const id = Atomics.load(this.words, THREAD_ID);
    try {
      return readFileSync(`/proc/self/task/${id}/wchan`, 'utf8');
    } catch {
      return '';
    }
  }
}

/** Threads that are ready for calls. Make them while the main thread is free: a worker needs it to load. */
export class StartedThreads {
  private readonly threads: Thread[];

  private constructor(threads: Thread[]) {
    this.threads = threads;
  }

  /** `startWorker` starts a thread that calls serveStartedSteps (started-worker.ts) with the given workerData. */
  static async create(startWorker: (shared: SharedArrayBuffer) => Worker): Promise<StartedThreads> {
    const starting = Array.from({ length: MAX_STARTED }, async () => {
      const shared = new SharedArrayBuffer(SHARED_BYTES);
      const worker = startWorker(shared);
      await once(worker, 'message');
      worker.unref();
      return new Thread(worker, shared);
    });
    return new StartedThreads(await Promise.all(starting));
  }

  free(): Thread | null {
    return this.threads.find((thread) => thread.isDone) ?? null;
  }
}

interface StartedStep {
  /** Null once the result has arrived. */
  thread: Thread | null;
  result: StepResult | null;
  /** Releases the caller's resources when the step has ended. */
  atEnd: () => void;
}

/** The steps that one scenario started. */
export class LinuxStartedSteps {
  private readonly steps = new Map<string, StartedStep>();
  private readonly threads: StartedThreads | null;

  constructor(threads: StartedThreads | null) {
    this.threads = threads;
  }

  start(name: string, call: StartedCall, atEnd: () => void): 'ended' | 'blocked' {
    if (this.threads === null) throw new Error('start wants threads, and this run has none');
    const thread = this.threads.free();
    if (thread === null) throw new Errno('EAGAIN', `${MAX_STARTED} started steps are under way`);
    const started: StartedStep = { thread, result: null, atEnd };
    this.steps.set(name, started);
    thread.call(call);
    this.settle(name);
    return started.thread === null ? 'ended' : 'blocked';
  }

  join(name: string): StepResult {
    const started = this.steps.get(name);
    if (started === undefined) return refusal(new Errno('EBADF', `no step was started as ${name}`));
    this.settle(name);
    return started.result ?? { ok: 'blocked' };
  }

  /** Waits until each started step has ended or is blocked. All looks are quick, except at `patientlyFor`. */
  settle(patientlyFor?: string): void {
    for (const [name, started] of this.steps) {
      if (started.thread === null) continue;
      started.thread.settle(name !== patientlyFor);
      if (!started.thread.isDone) continue;
      started.result = started.thread.takeResult();
      started.thread = null;
      started.atEnd();
    }
  }

  /** As `settle`, without a quick look. */
  settleAll(): void {
    for (const name of this.steps.keys()) this.settle(name);
  }
}
