/**
 * The client of the demo. It lends a BAR of one served device to the other, moves bytes, and takes the BAR back by
 * every trigger.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { Errno } from '../abi/errno.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../abi/vfio-user.ts';
import { IoatDriver } from '../drivers/ioat.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { sys } from '../linux/ffi.ts';
import { Mapping } from '../linux/mapping.ts';
import { createMemfd } from '../linux/memfd.ts';
import { type ConfigStep, configStep } from '../scenario/config-steps.ts';
import { featureArgument } from '../scenario/feature-argument.ts';
import { configOf } from '../scenario/served/device.ts';
import { runner } from '../task/runner.ts';
import { VfioUserClient } from '../vfio-user/client/client.ts';

const MIB = 1 << 20;
const BAR_BYTES = 64 * MIB;
/** The two ranges that are lent: the halves of the BAR, the upper one first. */
const RANGES: [number, number][] = [
  [BAR_BYTES / 2, BAR_BYTES / 2],
  [0, BAR_BYTES / 2],
];
/** The borrower's IOVAs of the client's memory and of the lent BAR. */
const MEMORY_IOVA = 0x1_0000_0000;
const LENT_IOVA = 0x2_0000_0000;
/** How many copies the measurement of speed makes; the fastest counts. */
const COPIES = 5;
const READ_WRITE = VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE;

/** One way to take the memory back, and how to make it usable again. */
interface Trigger {
  name: string;
  pull: () => void;
  undo?: () => void;
}

export class PeerDemo {
  private readonly paths: ReadonlyMap<string, string>;
  private lender: VfioUserClient;
  private readonly borrower: VfioUserClient;
  private readonly driver: IoatDriver;
  private readonly memory: Mapping;
  private readonly bar: Mapping;
  private readonly pause: () => Promise<void>;
  private buffer: OwnedFd | null = null;

  /** `pause` is awaited while a buffer is revoked. */
  constructor(paths: ReadonlyMap<string, string>, pause: () => Promise<void>) {
    this.paths = paths;
    this.pause = pause;
    this.lender = new VfioUserClient(paths.get('lender')!);
    this.borrower = new VfioUserClient(paths.get('borrower')!);
    this.driver = new IoatDriver(this.borrower);
    const memfd = createMemfd('barter demo', BAR_BYTES);
    this.memory = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: BAR_BYTES, writable: true, what: 'memory' });
    this.borrower.dmaMap(MEMORY_IOVA, BAR_BYTES, READ_WRITE, memfd.fd);
    memfd.close();
    this.setMemory(true);
    this.bar = this.lender.mapRegion(0, 0, BAR_BYTES);
  }

  *steps(): Generator<[string, () => string | Promise<string>]> {
    yield ['refuse open_flags that mean nothing', () => this.refuseOpenFlags()];
    yield ['export two ranges of a BAR', () => this.exportRanges()];
    yield ['refuse mmap of the dma-buf', () => this.refuseMmap()];
    yield ['attach and map by the peer', () => this.mapByPeer()];
    yield ['move 64 MiB peer to peer', () => this.moveAll()];
    for (const trigger of this.triggers()) yield [`revoke: ${trigger.name}`, () => this.revokeBy(trigger)];
    yield ['revoke: close', () => this.revokeByClose()];
  }

  close(): void {
    this.buffer?.close();
    this.bar.close();
    this.memory.close();
    this.driver.close();
    this.borrower.close();
    this.lender.close();
  }

  private triggers(): Trigger[] {
    const device = 'lender';
    const lowPower = (op: 'low-power-entry' | 'low-power-exit') =>
      this.lender.feature(featureArgument({ op, device }, 0));
    const power = (state: number) => this.config({ op: 'power', device, state });
    return [
      { name: 'memory bit', pull: () => this.setMemory(false), undo: () => this.setMemory(true) },
      { name: 'D3hot', pull: () => power(3), undo: () => power(0) },
      { name: 'FLR', pull: () => this.config({ op: 'flr', device }) },
      { name: 'DEVICE_RESET', pull: () => this.lender.reset() },
      { name: 'hot reset', pull: () => this.lender.hotReset() },
      { name: 'low power', pull: () => lowPower('low-power-entry'), undo: () => lowPower('low-power-exit') },
    ];
  }

  private refuseOpenFlags(): string {
    const said = refusal(() => this.export({ openFlags: 0x8000_0000 }));
    if (said !== 'EINVAL') throw new Errno('EIO', `open_flags 0x80000000 gave ${said}, not EINVAL`);
    return 'EINVAL';
  }

  private exportRanges(): string {
    this.buffer = this.export();
    return `BAR 0, ${RANGES.map(([offset, length]) => `${length / MIB} MiB at ${offset / MIB} MiB`).join(' and ')}`;
  }

  private refuseMmap(): string {
    const fd = this.buffer!.fd;
    const said = refusal(() =>
      Mapping.map({ fd, offset: 0, sizeBytes: 4096, writable: false, what: 'dma-buf' }).close(),
    );
    if (said === null) throw new Errno('EIO', 'the dma-buf was mapped by the CPU');
    return said;
  }

  private mapByPeer(): string {
    this.mapLent();
    return `at bus address 0x${LENT_IOVA.toString(16)} of the DMA engine`;
  }

  private moveAll(): string {
    randomFillSync(this.memory.bytes);
    this.copyAll();
    const sent = sha256([this.memory.bytes]);
    const arrived = sha256(RANGES.map(([offset, length]) => this.bar.bytes.subarray(offset, offset + length)));
    if (sent !== arrived) throw new Errno('EIO', `sent ${sent}, arrived ${arrived}`);
    return `${this.speed()}, sha256 ${sent.slice(0, 8)} on both sides`;
  }

  private copyAll(): void {
    const status = this.driver.copy(MEMORY_IOVA, LENT_IOVA, BAR_BYTES);
    if (status !== 'ok') throw new Errno('EIO', `the engine stopped: ${status}`);
  }

  /** Times the copy against memcpy between the same memories. Every page has been touched before. */
  private speed(): string {
    const engine: number[] = [];
    const memcpy: number[] = [];
    for (let i = 0; i < COPIES; i++) {
      engine.push(secondsOf(() => this.copyAll()));
      memcpy.push(secondsOf(() => sys.memcpy(this.bar.address, this.memory.address, BAR_BYTES)));
    }
    const seconds = Math.min(...engine);
    const ratio = Math.min(...memcpy) / seconds;
    return `${(BAR_BYTES / MIB / seconds).toFixed(0)} MiB/s (memcpy x ${ratio.toFixed(2)})`;
  }

  /** Revokes by a trigger: bytes arrive before it, none after it returns, and again after the restore and a new map. */
  private async revokeBy({ name, pull, undo }: Trigger): Promise<string> {
    this.expectCopy('ok', `before ${name}`);
    const started = performance.now();
    pull();
    const revokeMs = performance.now() - started;
    this.expectCopy('write data error', `after ${name}`);
    await this.pause();
    undo?.();
    const unmapped = this.borrower.dmaUnmap(LENT_IOVA, BAR_BYTES);
    if (unmapped !== BAR_BYTES) throw new Errno('EIO', `DMA_UNMAP gave back ${unmapped} bytes`);
    this.mapLent();
    this.expectCopy('ok', `after ${name} and a new map`);
    return `revoked in ${revokeMs.toFixed(2)} ms; DMA faults, bytes kept; mapped again`;
  }

  private async revokeByClose(): Promise<string> {
    this.expectCopy('ok', 'before close');
    this.lender.close();
    // The server learns from the socket that the connection has ended; the next connection waits until then.
    this.lender = new VfioUserClient(this.paths.get('lender')!);
    this.expectCopy('write data error', 'after close');
    await this.pause();
    this.setMemory(true);
    this.borrower.dmaUnmap(LENT_IOVA, BAR_BYTES);
    const said = refusal(() => this.mapLent());
    if (said !== 'ENODEV') throw new Errno('EIO', `a buffer of a closed device maps: ${said}`);
    this.buffer!.close();
    this.buffer = this.export();
    this.mapLent();
    this.expectCopy('ok', 'after a new export');
    return 'revoked for good (ENODEV); a new export works';
  }

  /** Copies a page of new bytes into the lent BAR, and checks that they arrived, or did not, as wanted. */
  private expectCopy(wanted: string, when: string): void {
    const target = RANGES[0][0];
    const before = Buffer.from(this.bar.bytes.subarray(target, target + 4096));
    randomFillSync(this.memory.bytes, 0, 4096);
    const status = this.driver.copy(MEMORY_IOVA, LENT_IOVA, 4096);
    if (status !== wanted) throw new Errno('EIO', `${when}: the copy ended with "${status}", not "${wanted}"`);
    const expected = wanted === 'ok' ? this.memory.bytes.subarray(0, 4096) : before;
    if (Buffer.compare(this.bar.bytes.subarray(target, target + 4096), expected) !== 0) {
      throw new Errno('EIO', `${when}: the BAR has the wrong bytes`);
    }
  }

  private export({ openFlags }: { openFlags?: number } = {}): OwnedFd {
    const step = { op: 'export' as const, device: 'lender', region: 0, ranges: RANGES, as: 'buffer' };
    const { fds } = this.lender.feature(featureArgument(openFlags === undefined ? step : { ...step, openFlags }, 0));
    if (fds.length !== 1) throw new Errno('EPROTO', `the export brought ${fds.length} descriptors`);
    return fds[0];
  }

  private mapLent(): void {
    this.borrower.dmaMap(LENT_IOVA, BAR_BYTES, READ_WRITE, this.buffer!.fd);
  }

  private setMemory(on: boolean): void {
    this.config({ op: 'memory', device: 'lender', on });
  }

  private config(step: ConfigStep): void {
    runner.run(configStep(configOf(this.lender), step));
  }
}

/** The errno that an action is refused with; null if it succeeds. */
function refusal(action: () => unknown): string | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

function sha256(parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

function secondsOf(action: () => void): number {
  const began = performance.now();
  action();
  return (performance.now() - began) / 1000;
}
