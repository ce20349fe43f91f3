/** A conversation with the two devices of examples/two-peers.yaml, for captures. */
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { enableMemory, exportBuffer } from '../vfio-user/lent.ts';
import { RawImporter } from '../vfio-user/raw-importer.ts';

export const PAGE = 4096;

/** Uses all three kinds of sockets: a client's, its twin for DMA of the device, and an importer's. */
export function converse(lender: string, borrower: string): void {
  const lends = new VfioUserClient(lender);
  enableMemory(lends, true);
  const buffer = exportBuffer(lends);
  const importer = RawImporter.ready(buffer);
  importer.attach();
  const copies = new VfioUserClient(borrower, { twinSocket: true });
  const memory = Buffer.alloc(PAGE, 7);
  copies.memory = {
    read: (address, into) => into.set(memory.subarray(address - 0x10000, address - 0x10000 + into.length)),
    write: (address, bytes) => memory.set(bytes, address - 0x10000),
  };
  copies.dmaMap(0x10000, PAGE, 3, null);
  const memfd = createMemfd('test', 3 * PAGE);
  copies.dmaMap(0x20000, 3 * PAGE, 3, memfd.fd);
  memfd.close();
  const driver = new IoatDriver(copies);
  driver.copy(0x10000, 0x20000, 100);
  driver.close();
  importer.close();
  buffer.close();
  lends.closeAndWait();
  copies.closeAndWait();
}
