/**
 * How fast the engine is in process: exports and closes, mappings, revokes over many live buffers, and the memory of a
 * live buffer. The best of several rounds counts, since other load only slows a round down.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { PCI_COMMAND, PCI_COMMAND_MEMORY } from '../src/abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../src/abi/vfio.ts';
import { DMA_BIDIRECTIONAL, DmaBuf, type DmaBufAttachOps } from '../src/dma-buf/dma-buf.ts';
import { FdTable } from '../src/dma-buf/file.ts';
import { createMemfd } from '../src/linux/memfd.ts';
import { packageFile } from '../src/linux/package-file.ts';
import { buildMachine } from '../src/machine/build.ts';
import { loadMachine } from '../src/machine/load.ts';
import type { PciFunction } from '../src/pci/function.ts';
import { featureArgument } from '../src/scenario/feature-argument.ts';
import { DONE, type Task } from '../src/task/op.ts';
import { Runner } from '../src/task/runner.ts';
import type { VfioPciCoreDevice } from '../src/vfio/core.ts';
import { buildVfioDevices } from '../src/vfio/driver.ts';
import { PROFILES } from '../src/vfio/profile.ts';
import { BufferMemory, type Caller } from '../src/vfio/user.ts';
import type { BenchResult } from './result.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
const MEMORY_ON = Uint8Array.of(PCI_COMMAND_MEMORY, 0);
const MEMORY_OFF = Uint8Array.of(0, 0);
const ROUNDS = 9;
const CALLS = 2000;
const LIVE = [1, 100, 10_000, 100_000];
const MAX_LIVE = LIVE[LIVE.length - 1];
/** The most microseconds that a revoke may take, and the most bytes that memory may hold, for each live buffer. */
const REVOKE_US = 2;
const BYTES_EACH = 1024;
/** The least calls for each file that the kernel makes and closes. */
const CALLS_BAR = 0.15;

export function benchEngine(): BenchResult[] {
  return [...benchCalls(), ...benchRevokes(), benchMemory()];
}

function noEvents(): never {
  throw new Error('nobody here has eventfds');
}

/** A lender that is open and decodes, and a user with a descriptor table. */
class LendingRig {
  readonly lender: VfioPciCoreDevice;
  readonly borrower: PciFunction;
  private readonly runner = new Runner();
  private readonly caller: Caller = { files: new FdTable(), eventSignal: noEvents, eventSource: noEvents };
  private readonly request = featureArgument(
    { op: 'export', device: 'lender', region: 0, ranges: [[0x10000, 0x1000]] },
    0,
  );

  constructor() {
    const { functions } = buildMachine(loadMachine(MACHINE));
    this.lender = buildVfioDevices(functions, PROFILES.default).get('lender')!;
    this.borrower = functions.get('borrower')!;
    this.run(this.lender.open());
    this.setMemory(true);
  }

  run<T>(task: Task<T>): T {
    return this.runner.run(task);
  }

  export(): number {
    return this.run(this.lender.feature(new BufferMemory(this.request), this.caller));
  }

  close(fd: number): void {
    this.run(this.caller.files.close(fd));
  }

  buffer(fd: number): DmaBuf {
    const file = this.caller.files.lookup(fd);
    if (!(file instanceof DmaBuf)) throw new Error(`descriptor ${fd} is not a dma-buf`);
    return file;
  }

  /** Writes COMMAND, as a user does. */
  setMemory(on: boolean): void {
    this.run(this.lender.write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, on ? MEMORY_ON : MEMORY_OFF));
  }
}

/** The seconds that one call takes in the best round. */
function best(calls: number, body: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const watch = stopwatch();
    for (let call = 0; call < calls; call++) body();
    least = Math.min(least, watch() / calls);
  }
  return least;
}

const OPS: DmaBufAttachOps = { allowPeer2Peer: true, invalidateMappings: () => DONE };

function* attachMapUnmap(dmabuf: DmaBuf, importer: PciFunction): Task {
  const attachment = yield* dmabuf.attach(importer, OPS);
  const table = yield* dmabuf.mapUnlocked(attachment, DMA_BIDIRECTIONAL);
  yield* dmabuf.unmapUnlocked(attachment, table, DMA_BIDIRECTIONAL);
  yield* dmabuf.detach(attachment);
}

/** Export and mapping calls, against the kernel's time to make and close a file of one page with its own inode. */
function benchCalls(): BenchResult[] {
  const rig = new LendingRig();
  const memfd = best(CALLS, () => createMemfd('bench', 4096).close());
  const dmabuf = rig.buffer(rig.export());
  const calls: [string, () => void][] = [
    ['export-close', () => rig.close(rig.export())],
    ['attach-map-unmap', () => rig.run(attachMapUnmap(dmabuf, rig.borrower))],
  ];
  return calls.map(([name, body]) => {
    const seconds = best(CALLS, body);
    return {
      name,
      value: 1 / seconds,
      unit: 'calls/s',
      reference: 'memfd_create and close',
      ratio: memfd / seconds,
      bar: CALLS_BAR,
    };
  });
}

/**
 * Clears the memory bit over `live` buffers without importers. The value is the time that each buffer adds to the write
 * to COMMAND; `writeUs` is the whole write.
 */
function benchRevokes(): BenchResult[] {
  // Warms up, so that only compiled code is measured.
  bestRevoke(100);
  const none = bestRevoke(0);
  return LIVE.map((live) => {
    const seconds = bestRevoke(live);
    const value = ((seconds - none) / live) * 1e6;
    const writeUs = Math.round(seconds * 1e8) / 100;
    return { name: `revoke-${live}`, value, unit: 'us each', reference: REVOKE_US, ratio: REVOKE_US / value, writeUs };
  });
}

/** Seconds of one write that clears the bit. */
function bestRevoke(live: number): number {
  const rig = new LendingRig();
  for (let i = 0; i < live; i++) rig.export();
  // Enough calls to make a round long enough to measure.
  const calls = Math.max(1, Math.ceil(2000 / Math.max(1, live)));
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) least = Math.min(least, timeRevokes(rig, calls));
  return least;
}

function timeRevokes(rig: LendingRig, calls: number): number {
  let seconds = 0;
  for (let call = 0; call < calls; call++) {
    const watch = stopwatch();
    rig.setMemory(false);
    seconds += watch();
    rig.setMemory(true);
  }
  return seconds / calls;
}

/**
 * Returns a function that gives the seconds since then: wall-clock or CPU time, whichever is less. Other programs use
 * the CPU too.
 */
function stopwatch(): () => number {
  const cpu = process.cpuUsage();
  const began = performance.now();
  return () => {
    const wall = (performance.now() - began) / 1000;
    // For so short a time the system call for the CPU time would cost more than the work itself.
    if (wall < 1e-3) return wall;
    const { user, system } = process.cpuUsage(cpu);
    return Math.min(wall, (user + system) / 1e6);
  };
}

function benchMemory(): BenchResult {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const rig = new LendingRig();
  rig.close(rig.export());
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < MAX_LIVE; i++) rig.export();
  collect();
  const value = (process.memoryUsage().heapUsed - before) / MAX_LIVE;
  rig.setMemory(false);
  return { name: 'memory-each', value, unit: 'bytes', reference: BYTES_EACH, ratio: BYTES_EACH / value };
}
