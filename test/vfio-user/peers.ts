/** A lender's client, and a borrower's client with its driver, on one or two servers. */

import { IoatDriver } from '../../src/drivers/ioat.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { enableMemory } from './lent.ts';
import type { TestServer } from './served.ts';

/** Flags of a DMA_MAP. */
export const READ_WRITE = 3;
/** The address at which the borrower has the memory that it copies from. */
export const OWN = 0x100000;

export class Peers {
  readonly lender: VfioUserClient;
  readonly borrower: VfioUserClient;
  readonly driver: IoatDriver;
  readonly memory: Mapping;

  constructor(lending: TestServer, borrowing = lending) {
    this.lender = new VfioUserClient(lending.path('lender'));
    this.borrower = new VfioUserClient(borrowing.path('borrower'));
    this.driver = new IoatDriver(this.borrower);
    enableMemory(this.lender, true);
    const memfd = createMemfd('test', 65536);
    this.memory = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: 65536, writable: true, what: 'test' });
    this.borrower.dmaMap(OWN, 65536, READ_WRITE, memfd.fd);
    memfd.close();
  }

  /** The result of an engine's write to an address of the lent buffer. */
  write(iova: number, value: number): string {
    this.memory.write(0, Buffer.from([value]));
    return this.driver.copy(OWN, iova, 1);
  }

  /** A byte of the lender's BAR. */
  lent(offset: number): number {
    const byte = Buffer.alloc(1);
    this.lender.readRegion(0, offset, byte);
    return byte[0];
  }

  close(): void {
    this.driver.close();
    this.memory.close();
    this.lender.close();
    this.borrower.close();
  }
}
