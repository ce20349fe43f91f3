/**
 * In the guest: a lender under vfio-pci and a borrower under ioatdma. The lender lends ranges of its BAR as dma-bufs.
 * The lab's importer makes the borrower's engine copy into them while the lender takes them back.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { Errno } from '../../../src/abi/errno.ts';
import type { LabImporter } from '../../../src/linux/lab-importer.ts';
import { LinuxBackend } from '../../../src/scenario/kernel/backend.ts';
import type { Step } from '../../../src/scenario/step.ts';
import { runner } from '../../../src/task/runner.ts';
import type { PeerAnswer, PeerTrigger } from '../calls.ts';
import { attempt, outcomeOf, perform, pull } from '../steps.ts';
import { device, memory, TRIGGERS } from '../triggers.ts';

/**
 * Markers: reads of the last bytes of the borrower's config space. Its server sees them in order with everything else,
 * so its trace shows which messages came before a trigger returned and which after.
 */
const MARKERS = { before: 0xffe, returned: 0xfff, restored: 0xffd, submitting: 0xffc };
const RAW_BYTES = 4096;
/** Far from the seeds of other copies. */
const RAW_SEED = 1000;
const MAX_TRIALS = 3;

/** One lent range: its importer, and its mapping while it has one. */
export interface Lent {
  readonly length: number;
  readonly offset: number;
  importer: LabImporter;
  map: number;
  address: number;
}

export class PeerTrial {
  readonly lent: Lent[] = [];
  private readonly release: string;
  private backend: LinuxBackend | null = null;
  private config = -1;
  private ranges: [number, number][] = [];

  constructor(release: string) {
    this.release = release;
  }

  step(step: Step): unknown {
    return perform(this.backend!, step);
  }

  get world() {
    return this.backend!.world;
  }

  mark(what: keyof typeof MARKERS): void {
    readSync(this.config, Buffer.alloc(1), 0, 1, MARKERS[what]);
  }

  mapAll(): void {
    for (const [i, each] of this.lent.entries()) {
      this.step({ op: 'map', importer: `importer${i}`, as: `map${i}` });
      each.map = this.world.mappings.get(`map${i}`)!.id;
      each.address = each.importer.segments[0].address;
    }
  }

  addresses(): PeerAnswer {
    return { addresses: this.lent.map(({ address }) => address) };
  }

  /** Opens both devices and lends the ranges. */
  begin(addresses: { lender: string; borrower: string }, ranges: [number, number][]): void {
    this.ranges = ranges;
    this.backend = new LinuxBackend(this.release, new Map(Object.entries(addresses)));
    this.config = openSync(`/sys/bus/pci/devices/${addresses.borrower}/config`, 'r');
    this.lend();
  }

  private lend(): void {
    this.step({ op: 'open', device });
    this.step(memory(true));
    this.lent.length = 0;
    for (const [i, [offset, length]] of this.ranges.entries()) {
      this.step({ op: 'export', device, region: 0, ranges: [[offset, length]], as: `buffer${i}` });
      this.step({ op: 'attach', fd: `buffer${i}`, device: 'borrower', as: `importer${i}` });
      const importer = this.world.importers.get(`importer${i}`)!;
      this.lent.push({ offset, length, importer, map: -1, address: -1 });
    }
    this.mapAll();
  }

  /** Exports several ranges as one dma-buf and maps it; returns 'ok' or the errno. */
  mapTogether(ranges: [number, number][]): string {
    this.step({ op: 'export', device, region: 0, ranges, as: 'together' });
    this.step({ op: 'attach', fd: 'together', device: 'borrower', as: 'of all' });
    const result = attempt(this.backend!, { op: 'map', importer: 'of all', as: 'all' });
    this.step({ op: 'detach', importer: 'of all' });
    this.step({ op: 'close-fd', fd: 'together' });
    return 'ok' in result ? 'ok' : result.errno;
  }

  /** Copies into each lent range; returns the checksums of their contents afterwards. */
  copyAll(seed: number): number[] {
    return this.lent.map((each, i) => this.copy(each, seed + i));
  }

  /**
   * Copies once, and again if the driver aborts the copy. A while after an error ioatdma restarts a channel that it
   * believes to hang, and aborts its running copies. A failure by the engine or the mapping would only repeat.
   */
  private copy({ importer, map, length }: Lent, seed: number): number {
    for (let trial = 1; ; trial++) {
      try {
        importer.fill(map, 0, length, seed);
        return importer.checksum(map, 0, length);
      } catch (error) {
        if (!(error instanceof Errno) || error.code !== 'EIO' || trial === MAX_TRIALS) throw error;
      }
    }
  }

  revoke(trigger: PeerTrigger, seed: number): PeerAnswer {
    for (const [i, { importer, map, length }] of this.lent.entries()) importer.submit(map, 0, length, seed + i);
    this.mark('before');
    const triggerMs = pull(this.backend!, trigger);
    this.mark('returned');
    const copies = this.lent.map(({ importer }) => importer.collect());
    const raw = this.lent.map(({ importer, address }) =>
      outcomeOf(() => importer.raw(address, RAW_BYTES, seed + RAW_SEED)),
    );
    return { copies, triggerMs, tried: raw.map((copy, i) => ({ copy, map: this.mapAndUnmap(i) })) };
  }

  private mapAndUnmap(i: number): string {
    const result = attempt(this.backend!, { op: 'map', importer: `importer${i}`, as: 'tried' });
    if ('errno' in result) return result.errno;
    this.step({ op: 'unmap', map: 'tried' });
    return 'ok';
  }

  restore(trigger: PeerTrigger): void {
    const { undo } = TRIGGERS[trigger];
    this.mark('restored');
    if (trigger !== 'close') {
      if (undo !== undefined) this.step(undo);
      this.mapAll();
      return;
    }
    for (const i of this.lent.keys()) {
      this.step({ op: 'detach', importer: `importer${i}` });
      this.step({ op: 'close-fd', fd: `buffer${i}` });
    }
    this.lend();
  }

  end(): void {
    if (this.config >= 0) closeSync(this.config);
    this.config = -1;
    if (this.backend !== null) runner.run(this.backend.dispose());
    this.backend = null;
  }
}
