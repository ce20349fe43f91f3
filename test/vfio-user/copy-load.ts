/** Copies of a served engine into another device's lent BAR, with revokes in the midst of them, and the bytes checked. */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { type CopyRequest, IoatDriver } from '../../src/drivers/ioat.ts';
import type { Random } from '../../src/explore/search/random.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { enableMemory, exportBuffer } from './lent.ts';

const MIN_BYTES = 4096;
const MAX_BYTES = 2 ** 20;
/** The BAR size of the lender in served.ts. */
const BAR_BYTES = 2 ** 20;
const MEMORY_IOVA = 0x1000_0000;
const LENT_IOVA = 0x2000_0000;
/** The engine copies one descriptor without a pause: a revoke comes between two of them. */
const MAX_CHAIN = 64;
const BOTH = 3;
const REVOKE_CHANCE = 0.5;
const LONGEST_WAIT_MS = 0.3;
const QUIET_MS = 0.2;

/** A copy as a chain with as many descriptors as fit into the driver's ring. */
function pieces(source: number, destination: number, length: number): CopyRequest[] {
  const bytes = Math.ceil(length / MAX_CHAIN);
  return Array.from({ length: Math.ceil(length / bytes) }, (_, i) => {
    const at = i * bytes;
    return { source: source + at, destination: destination + at, length: Math.min(bytes, length - at) };
  });
}

function spin(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end) {}
}

/** A lent BAR, the engine that copies into it, and the BAR's expected content. */
export class CopyLoad {
  private readonly lender: VfioUserClient;
  private readonly borrower: VfioUserClient;
  private readonly driver: IoatDriver;
  private readonly memory: Mapping;
  private readonly bar: Mapping;
  private readonly buffer: OwnedFd;
  private readonly known = Buffer.alloc(BAR_BYTES);
  private readonly random: Random;
  copies = 0;
  revokes = 0;
  inMidst = 0;

  /** The lender's BAR 0 has 1 MiB; the borrower is an engine of the same server. */
  constructor(lenderPath: string, borrowerPath: string, random: Random) {
    this.random = random;
    this.lender = new VfioUserClient(lenderPath);
    this.borrower = new VfioUserClient(borrowerPath);
    this.driver = new IoatDriver(this.borrower);
    enableMemory(this.lender, true);
    const memfd = createMemfd('test', MAX_BYTES);
    this.memory = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: MAX_BYTES, writable: true, what: 'test' });
    this.borrower.dmaMap(MEMORY_IOVA, MAX_BYTES, BOTH, memfd.fd);
    memfd.close();
    this.bar = this.lender.mapRegion(0, 0, BAR_BYTES);
    this.buffer = exportBuffer(this.lender, { ranges: [[0, BAR_BYTES]] });
    this.map();
    this.bar.read(0, this.known);
  }

  round(): void {
    const length = Math.floor(MIN_BYTES * (MAX_BYTES / MIN_BYTES) ** this.random.fraction());
    const offset = Math.floor(this.random.fraction() * (BAR_BYTES - length));
    randomFillSync(this.memory.bytes, 0, length);
    this.driver.submitChain(pieces(MEMORY_IOVA, LENT_IOVA + offset, length));
    this.copies += 1;
    if (this.random.fraction() < REVOKE_CHANCE) {
      this.revoke(offset, length);
      this.restore();
    } else {
      assert.equal(this.wait(), 'ok');
      this.known.set(this.memory.bytes.subarray(0, length), offset);
    }
    assert.ok(this.content().equals(this.known), `a byte is wrong after copy ${this.copies}`);
  }

  close(): void {
    this.buffer.close();
    this.bar.close();
    this.driver.close();
    this.memory.close();
    this.borrower.close();
    this.lender.close();
  }

  /** The BAR's content at the return of the revoke must stay, whatever the engine does. */
  private revoke(offset: number, length: number): void {
    spin(this.random.fraction() * LONGEST_WAIT_MS);
    enableMemory(this.lender, false);
    const atReturn = this.content();
    const status = this.wait();
    spin(QUIET_MS);
    assert.ok(this.content().equals(atReturn), `bytes arrived after the revoke had returned`);
    this.revokes += 1;
    const part = atReturn.subarray(offset, offset + length);
    const written = this.memory.bytes.subarray(0, length);
    if (status === 'ok') assert.ok(part.equals(written), 'a copy that is done has its bytes there');
    else {
      this.inMidst += 1;
      const isEither = part.every((byte, i) => byte === written[i] || byte === this.known[offset + i]);
      assert.ok(isEither, `a byte is neither what was there nor what was copied`);
    }
    part.copy(this.known, offset);
  }

  private restore(): void {
    enableMemory(this.lender, true);
    assert.equal(this.borrower.dmaUnmap(LENT_IOVA, BAR_BYTES), BAR_BYTES);
    this.map();
  }

  private map(): void {
    this.borrower.dmaMap(LENT_IOVA, BAR_BYTES, BOTH, this.buffer.fd);
  }

  private wait(): string {
    for (;;) {
      const status = this.driver.takeStatus();
      if (status !== null) return status;
    }
  }

  private content(): Buffer {
    return Buffer.from(this.bar.bytes);
  }
}
