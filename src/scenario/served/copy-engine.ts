/** DMA by a served device for a scenario: the device's driver, and the memory that it copies from and to. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../../abi/vfio-user.ts';
import { IoatDriver } from '../../drivers/ioat.ts';
import { Mapping } from '../../linux/mapping.ts';
import { createMemfd } from '../../linux/memfd.ts';
import type { VfioUserClient } from '../../vfio-user/client/client.ts';

/** A device's access to the memory that is mapped for it. */
export const READ_WRITE = VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE;
const STAGING_IOVA = 0x8000_0000;
const STAGING_BYTES = 1 << 20;

/** The DMA engine of an importer's device, with the memory that it copies from and to. */
export class CopyEngine {
  private readonly driver: IoatDriver;
  private readonly staging: Mapping;

  constructor(client: VfioUserClient) {
    const memfd = createMemfd('staging', STAGING_BYTES);
    const what = 'staging memory';
    this.staging = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: STAGING_BYTES, writable: true, what });
    client.dmaMap(STAGING_IOVA, STAGING_BYTES, READ_WRITE, memfd.fd);
    memfd.close();
    this.driver = new IoatDriver(client);
  }

  write(iova: number, bytes: Uint8Array): number {
    this.staging.write(0, bytes);
    this.copy(STAGING_IOVA, iova, bytes.length);
    return bytes.length;
  }

  read(iova: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.copy(iova, STAGING_IOVA, length);
    this.staging.read(0, bytes);
    return bytes;
  }

  close(): void {
    this.driver.close();
    this.staging.close();
  }

  private copy(source: number, destination: number, length: number): void {
    const status = this.driver.copy(source, destination, length);
    if (status !== 'ok') throw new Errno('EIO', `DMA: ${status}`);
  }
}
