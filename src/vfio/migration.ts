/**
 * Migration of a device's state (linux/vfio.h, "VFIO migration protocol v2"): the state machine, and the actions on its
 * arcs. The stream is in migration-stream.ts.
 */
import { Errno } from '../abi/errno.ts';
import {
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_NR,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
} from '../abi/vfio-feature.ts';
import { Cell } from '../task/cell.ts';
import { type LockClass, Mutex } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import { type MigratingDevice, StateReader, StateWriter, stateBytes } from './migration-stream.ts';

/** Inside the device-set lock, outside memory_lock. */
const STATE_LOCK_CLASS: LockClass = { name: 'vfio_device.state_mutex' };

const { freeze } = Object;
/** The states that each state leads to directly, indexed by state. */
const ARCS: readonly (readonly number[])[] = freeze([
  [],
  [VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING],
  [VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_PRE_COPY],
  [VFIO_DEVICE_STATE_STOP],
  [VFIO_DEVICE_STATE_STOP],
  [VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_PRE_COPY_P2P],
  [VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_PRE_COPY_P2P],
  [VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_STOP_COPY],
]);
const STATE_NAMES = ['ERROR', 'STOP', 'RUNNING', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];

/** Whether the device starts its own DMA in a state. */
function runs(state: number): boolean {
  return state === VFIO_DEVICE_STATE_RUNNING || state === VFIO_DEVICE_STATE_PRE_COPY;
}

/** Whether a state is of the saving group: a stream is open for reading. */
function saves(state: number): boolean {
  return isPreCopy(state) || state === VFIO_DEVICE_STATE_STOP_COPY;
}

function isPreCopy(state: number): boolean {
  return state === VFIO_DEVICE_STATE_PRE_COPY || state === VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/**
 * The states on the way, the last one included. The way is the shortest one; it avoids saving states in between, unless
 * both ends are of the saving group. Null where there is none: no way leads out of ERROR, or from STOP_COPY back to
 * PRE_COPY.
 */
export function migrationPath(from: number, to: number): number[] | null {
  if (to === VFIO_DEVICE_STATE_ERROR || to >= VFIO_DEVICE_STATE_NR) return null;
  if (from === VFIO_DEVICE_STATE_STOP_COPY && isPreCopy(to)) return null;
  if (from === to && from !== VFIO_DEVICE_STATE_ERROR) return [];
  const paths: number[][] = [[from]];
  const seen = new Set([from]);
  for (let path = paths.shift(); path !== undefined; path = paths.shift()) {
    const at = path.at(-1)!;
    if (at === to) return path.slice(1);
    if (at !== from && saves(at) && !(saves(from) && saves(to))) continue;
    for (const next of ARCS[at]) {
      if (seen.has(next)) continue;
      // An arc into a saving state is allowed if it ends at `to`.
      if (next !== to && saves(next) && !(saves(from) && saves(to))) continue;
      seen.add(next);
      paths.push([...path, next]);
    }
  }
  return null;
}

export class Migration {
  private readonly vdev: MigratingDevice;
  /** Guards everything below. A slow read or write of the stream delays only the device's own user. */
  private readonly lock = new Mutex(STATE_LOCK_CLASS);
  /** Resets read it without the lock. */
  private readonly current = new Cell('vfio_device.mig_state', VFIO_DEVICE_STATE_RUNNING);
  private reader: StateReader | null = null;
  private writer: StateWriter | null = null;

  constructor(vdev: MigratingDevice) {
    this.vdev = vdev;
  }

  /** VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, GET. */
  *state(): Task<number> {
    yield* this.lock.lock();
    const state = this.current.value;
    yield* this.lock.unlock();
    return state;
  }

  /**
   * VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, SET. EINVAL for a state that cannot be reached; then nothing changes. EINVAL
   * also on the way out of RESUMING, if the data are incomplete or belong to another kind of device. Then the device is
   * in ERROR until a reset. Waits for the device's DMA to end.
   */
  *setState(target: number): Task {
    yield* this.lock.lock();
    try {
      const from = this.current.value;
      const path = migrationPath(from, target);
      if (path === null) {
        const to = STATE_NAMES[target] ?? `state ${target}`;
        throw new Errno('EINVAL', `${this.vdev.pdev.name}: no way from ${STATE_NAMES[from]} to ${to}`);
      }
      for (const next of path) {
        yield* this.take(this.current.value, next);
        yield* this.current.store(next);
      }
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** The next bytes of the stream, at most `size`: fewer at its end, or while PRE_COPY has no more data. EINVAL. */
  *read(size: number): Task<Uint8Array> {
    yield* this.lock.lock();
    try {
      if (this.reader === null) throw this.hasNoStream('read');
      return yield* this.reader.read(size);
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** EINVAL unless RESUMING, and for bytes that are not such a stream. */
  *write(bytes: Uint8Array): Task {
    yield* this.lock.lock();
    try {
      if (this.writer === null) throw this.hasNoStream('written');
      yield* this.writer.write(bytes);
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: the most bytes that the stream can have now. */
  dataBytes(): number {
    return stateBytes(this.vdev);
  }

  /**
   * After a reset or close: the state becomes RUNNING. memory_lock is not held. Does nothing for a RUNNING device: a
   * change of state that has begun then counts as later than the reset.
   */
  *reset(): Task {
    if ((yield* this.current.load()) === VFIO_DEVICE_STATE_RUNNING) return;
    yield* this.lock.lock();
    const state = this.current.value;
    this.reader = null;
    this.writer = null;
    yield* this.current.store(VFIO_DEVICE_STATE_RUNNING);
    if (!runs(state)) yield* this.vdev.pdev.resume();
    yield* this.lock.unlock();
  }

  private hasNoStream(verb: string): Errno {
    const state = STATE_NAMES[this.current.value];
    return new Errno('EINVAL', `${this.vdev.pdev.name} is ${state}: there is no stream to be ${verb}`);
  }

  /** Takes one arc. */
  private *take(from: number, to: number): Task {
    if (runs(from) && !runs(to)) yield* this.vdev.pdev.quiesce();
    if (saves(to) && !saves(from)) this.reader = new StateReader(this.vdev);
    if (saves(from) && !saves(to)) this.reader = null;
    if (to === VFIO_DEVICE_STATE_STOP_COPY) this.reader!.stop();
    if (to === VFIO_DEVICE_STATE_RESUMING) this.writer = new StateWriter(this.vdev);
    if (from === VFIO_DEVICE_STATE_RESUMING) yield* this.finishResuming();
    if (!runs(from) && runs(to)) yield* this.vdev.pdev.resume();
  }

  private *finishResuming(): Task {
    const writer = this.writer!;
    this.writer = null;
    try {
      yield* writer.finish();
    } catch (error) {
      yield* this.current.store(VFIO_DEVICE_STATE_ERROR);
      throw error;
    }
  }
}
