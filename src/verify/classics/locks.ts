/** The classic programs with locks, compare-and-swap and waits. */

import type { ProgramFamily } from '../../explore/world/program.ts';
import { InvariantError } from '../../task/lifetime.ts';
import { type LockClass, Mutex } from '../../task/lock.ts';
import type { Op, Task } from '../../task/op.ts';
import { type Flat, Var } from './var.ts';

const TABLE_SIZE = 128;

function* insertAll(table: readonly Var[], tid: number): Generator<Op, void, boolean> {
  for (let m = 1; m <= 4; m++) {
    const w = m * 11 + tid;
    let h = (w * 7) % TABLE_SIZE;
    while (!(yield table[h].compareExchange(0, w))) h = (h + 1) % TABLE_SIZE;
  }
}

export const indexer: ProgramFamily = {
  name: 'indexer',
  summary: 'N tasks put four words each into a hash table: 8^(N-11) from 11 on',
  sizes: { min: 1, max: 16, usual: 12 },
  isClassic: true,
  make: (size) => ({
    name: `indexer:${size}`,
    summary: 'N tasks put four words each into a hash table',
    build(stage) {
      stage.comparesBy(() => []);
      const table = Array.from({ length: TABLE_SIZE }, (_, i) => new Var(`table[${i}]`));
      for (let tid = 0; tid < size; tid++) stage.spawn(`task${tid}`, insertAll(table, tid) as Task);
    },
  }),
};

const INODE_CLASS: LockClass = { name: 'locki' };
const BLOCK_CLASS: LockClass = { name: 'lockb' };

export const filesystem: ProgramFamily = {
  name: 'filesystem',
  summary: 'N tasks give inodes their blocks, a mutex for each: 2^(N-13) from 13 on',
  sizes: { min: 1, max: 24, usual: 14 },
  isClassic: true,
  make: (size) => ({
    name: `filesystem:${size}`,
    summary: 'N tasks give inodes their blocks',
    build(stage) {
      const inodeLock = Array.from({ length: 32 }, (_, i) => new Mutex(INODE_CLASS, `locki[${i}]`));
      const blockLock = Array.from({ length: 26 }, (_, i) => new Mutex(BLOCK_CLASS, `lockb[${i}]`));
      const inode = new Int32Array(32);
      const busy = new Uint8Array(26);
      stage.comparesBy(() => [inode, busy]);
      function* task(tid: number): Task {
        const i = tid % 32;
        yield* inodeLock[i].lock();
        for (let b = (i * 2) % 26; inode[i] === 0; b = (b + 1) % 26) {
          yield* blockLock[b].lock();
          if (busy[b] === 0) {
            busy[b] = 1;
            inode[i] = b + 1;
          }
          yield* blockLock[b].unlock();
        }
        yield* inodeLock[i].unlock();
      }
      for (let tid = 0; tid < size; tid++) stage.spawn(`task${tid}`, task(tid));
    },
  }),
};

const BUFFER_CLASS: LockClass = { name: 'buffer' };

/** The buffer of `revoke`. Mutants replace its methods. */
export class RevocableBuffer {
  readonly mutex = new Mutex(BUFFER_CLASS);
  readonly maps = new Var('maps');
  revoked = false;
  /** Set once the revoke has returned. */
  isTaken = false;
  private readonly lockOp = firstOp(this.mutex.lock());
  private readonly unlockOp = firstOp(this.mutex.unlock());

  *use(): Flat {
    yield this.lockOp;
    const mapped = !this.revoked;
    if (mapped) yield this.maps.add(1);
    yield this.unlockOp;
    if (!mapped) return;
    if (this.isTaken) throw new InvariantError('I2', 'a mapping is used after the revoke returned');
    yield this.lockOp;
    yield this.maps.add(-1);
    yield this.unlockOp;
  }

  *revoke(): Flat {
    yield this.lockOp;
    this.revoked = true;
    yield this.unlockOp;
    yield* this.drain();
    this.isTaken = true;
    if (this.maps.value !== 0) throw new InvariantError('I2', `a revoke returned with ${this.maps.value} mappings`);
  }

  *drain(): Flat {
    yield this.maps.until(0);
  }
}

/** The first operation of a task. The caller yields it again and again. */
function firstOp(task: Task): Op {
  return task[Symbol.iterator]().next(undefined).value as Op;
}

export const revoke: ProgramFamily = {
  name: 'revoke',
  summary: 'N importers map and unmap a buffer under a mutex while one revokes it',
  sizes: { min: 1, max: 7, usual: 3 },
  isClassic: true,
  make: (size) => ({
    name: `revoke:${size}`,
    summary: 'N importers map and unmap a buffer under a mutex while one revokes it',
    build(stage) {
      const buffer = new RevocableBuffer();
      stage.comparesBy(() => [buffer.revoked, buffer.isTaken]);
      for (let i = 0; i < size; i++) stage.spawn(`importer${i}`, buffer.use());
      stage.spawn('revoker', buffer.revoke());
    },
  }),
};
