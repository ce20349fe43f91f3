/**
 * Peer-to-peer DMA on a real kernel. A guest's vfio-pci lends a served device's BAR. Its ioatdma copies into the BAR
 * through a mapping made by the kernel's dma-buf, peer-to-peer and IOMMU code. Then each trigger makes the lender take
 * the BAR back while copies run.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { packageFile } from '../../../src/linux/package-file.ts';
import type { PeerAnswer, PeerRequest, PeerTrigger } from '../../agent/calls.ts';
import { TRIGGER_NAMES, TRIGGERS } from '../../agent/triggers.ts';
import { Guest, guestAddress } from '../../host/guest.ts';
import { pattern } from '../../importer/pattern.ts';
import { driverOf, ioatModules } from '../ioat-selftest.ts';
import { type LabOptions, type LabResult, labRun, Served, type Started, type Steps } from '../run.ts';
import { lastRevoke } from './trace.ts';

/** Each device has its own root port, and the engine has a channel for each range. */
const MACHINE = packageFile('examples/apart.yaml');
const MIB = 2 ** 20;
/** The ranges that are lent at once, each as a dma-buf. */
const RANGES: [number, number][] = [
  [16 * MIB, 4 * MIB],
  [MIB, MIB],
];
/** Long after a revoke has returned. Nothing may arrive by then. */
const QUIET_MS = 200;
const MAX_TRIALS = 5;

export function peerToPeer(options: LabOptions): Promise<LabResult> {
  return labRun(options, async (steps, started) => {
    const peers = await PeerGuest.start(steps, started, options, RANGES);
    try {
      await peers.copyBothWays('copies through the mappings', 1);
      const { together } = await peers.call({ do: 'map-together', ranges: RANGES });
      // docs/kernel-findings.md, 1.
      steps.compare('one dma-buf of both ranges does not map through an IOMMU', 'EADDRINUSE', together);
      for (const [i, trigger] of TRIGGER_NAMES.entries()) await peers.revokeBy(trigger, 10 * (i + 1));
      await peers.call({ do: 'end' });
    } finally {
      peers.close();
    }
    return peers.release;
  });
}

/** A guest with both devices and lent ranges of the lender's BAR. */
export class PeerGuest {
  readonly served: Served;
  readonly release: string;
  private readonly steps: Steps;
  private readonly guest: Guest;
  private readonly ranges: readonly [number, number][];
  private readonly bar: number;
  private addresses: number[] = [];

  private constructor(
    steps: Steps,
    served: Served,
    guest: Guest,
    release: string,
    ranges: readonly [number, number][],
  ) {
    this.steps = steps;
    this.served = served;
    this.guest = guest;
    this.release = release;
    this.ranges = ranges;
    this.bar = openSync(served.barFile('lender.bar0'), 'r');
  }

  static async start(
    steps: Steps,
    started: Started,
    options: LabOptions,
    ranges: readonly [number, number][],
  ): Promise<PeerGuest> {
    const served = await steps.take(
      'serve lender and borrower',
      async () => started.add(await Served.start(MACHINE, { trace: true })),
      ({ pid }) => `process ${pid}`,
    );
    const devices = [served.qemuDevice('lender'), served.qemuDevice('borrower')];
    const guest = await steps.take('boot the guest', async () =>
      started.add(await Guest.boot({ ...options, devices, modules: ioatModules(options) })),
    );
    const { release } = await guest.call('hello', {});
    const addresses = { lender: guestAddress(0), borrower: guestAddress(1) };
    await guest.call('bind', { addresses: [addresses.lender] });
    const drivers = [await driverOf(guest, addresses.lender), await driverOf(guest, addresses.borrower)];
    steps.compare('drivers of lender and borrower', ['vfio-pci', 'ioatdma'], drivers);
    const peers = new PeerGuest(steps, served, guest, release, ranges);
    const lent = await steps.take(
      `lend ${ranges.length} ranges, attach, map`,
      () => peers.call({ do: 'lend', addresses, ranges: [...ranges] }),
      (answer) => answer.addresses!.map((address) => `0x${address.toString(16)}`).join(' '),
    );
    peers.addresses = lent.addresses!;
    return peers;
  }

  call(request: PeerRequest, timeoutMs?: number): Promise<PeerAnswer> {
    return this.guest.call('peer', request, timeoutMs);
  }

  /** Copies guest memory into the BAR and back. The lender's own process, the engine and the pattern must agree. */
  async copyBothWays(name: string, seed: number): Promise<void> {
    const { crc32: back } = await this.steps.take(
      name,
      () => this.call({ do: 'copy', seed }),
      () => ({ bytes: 2 * this.ranges.reduce((sum, [, length]) => sum + length, 0) }),
    );
    const wanted = this.patterns(seed).map((bytes) => crc32(bytes));
    this.steps.compare(
      `${name}: CRC-32 in the lender's process`,
      wanted,
      this.content().map((bytes) => crc32(bytes)),
    );
    this.steps.compare(`${name}: CRC-32 of what came back`, wanted, back);
  }

  /**
   * Revokes while copies run. On a busy machine the copies may end before the trigger: its effects are checked all the
   * same, and it is tried again.
   */
  async revokeBy(trigger: PeerTrigger, seed: number): Promise<void> {
    let inMidst = false;
    for (let trial = 0; trial < MAX_TRIALS && !inMidst; trial++) {
      inMidst = await this.revokeOnce(trigger, seed + 100 * trial);
    }
    this.steps.compare(`${trigger}: a copy was in its midst`, true, inMidst);
  }

  /** Returns whether a copy was running when the memory was taken back. */
  private async revokeOnce(trigger: PeerTrigger, seed: number): Promise<boolean> {
    const { steps } = this;
    const before = this.content();
    const answer = await steps.take(
      `${trigger}: taken back while copies are under way`,
      () => this.call({ do: 'revoke', trigger, seed }),
      ({ copies, triggerMs }) => ({ copies, triggerMs }),
    );
    const after = this.content();
    // A short copy may end before the revoke reaches it.
    const results = answer.copies!.filter(({ parts, of, result }) => parts < of === (result === 'done'));
    steps.compare(`${trigger}: each copy failed cleanly or was done`, [], results);
    const isBack = TRIGGERS[trigger].lendsAgain === true;
    const tried = this.ranges.map(() => ({ copy: 'EIO', map: isBack ? 'ok' : 'ENODEV' }));
    const what = isBack ? 'no copy comes through, but a new map' : 'neither a copy nor a map comes through';
    steps.compare(`${trigger}: ${what}`, tried, answer.tried);
    this.compareTrace(trigger);
    const mixed = this.patterns(seed).every((bytes, i) => isEitherOf(after[i], before[i], bytes));
    steps.compare(`${trigger}: every byte is what was there, or what was copied`, true, mixed);
    await delay(QUIET_MS);
    const quiet = this.content().every((bytes, i) => bytes.equals(after[i]));
    steps.compare(`${trigger}: and nothing changes any more`, true, quiet);
    const restored = await steps.take(`${trigger}: restore, map anew`, () => this.call({ do: 'restore', trigger }));
    this.addresses = restored.addresses!;
    await this.copyBothWays(`${trigger}: copies through the new mappings`, seed + 5);
    return answer.copies!.some(({ parts, of }) => parts < of);
  }

  close(): void {
    closeSync(this.bar);
  }

  private compareTrace(trigger: string): void {
    const events = this.served.events.filter(({ device }) => device === 'borrower');
    const lent = this.ranges.map(([, length], i) => ({ address: this.addresses[i], length }));
    const { unmappedBytes, lastUnmapMs, writesBefore, writesAfter } = lastRevoke(events, lent);
    const lengths = this.ranges.map(([, length]) => length);
    this.steps.compare(`${trigger}: DMA_UNMAP of every page arrived before it returned`, lengths, unmappedBytes);
    this.steps.note(`${trigger}: from the trigger to the last DMA_UNMAP`, { lastUnmapMs, writesBefore });
    this.steps.compare(`${trigger}: writes that reached the BAR after it returned`, 0, writesAfter);
  }

  private patterns(seed: number): Buffer[] {
    return this.ranges.map(([, length], i) => pattern(seed + i, 0, length));
  }

  /** The bytes of the lent ranges, read from the BAR in the lender's process. */
  private content(): Buffer[] {
    return this.ranges.map(([offset, length]) => {
      const bytes = Buffer.alloc(length);
      readSync(this.bar, bytes, 0, length, offset);
      return bytes;
    });
  }
}

function isEitherOf(seen: Buffer, one: Buffer, other: Buffer): boolean {
  return seen.every((byte, i) => byte === one[i] || byte === other[i]);
}
