/** A client that lends a BAR of a served device: the start of all demonstrations and benchmarks of borrowing. */
import { createHash } from 'node:crypto';
import { Errno } from '../abi/errno.ts';
import { PCI_COMMAND } from '../abi/pci_regs.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../abi/vfio-user.ts';
import { type CopyStatus, IoatDriver } from '../drivers/ioat.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { Mapping } from '../linux/mapping.ts';
import { createMemfd } from '../linux/memfd.ts';
import { configWrite, memoryCommand } from '../scenario/config-steps.ts';
import { featureArgument } from '../scenario/feature-argument.ts';
import { configOf } from '../scenario/served/device.ts';
import { runner } from '../task/runner.ts';
import { VfioUserClient } from '../vfio-user/client/client.ts';

const READ_WRITE = VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE;
const MEMORY_IOVA = 0x1_0000_0000;
const LENT_IOVA = 0x2_0000_0000;
const BAR = 0;

/** Connects to a served device. The error of a failure says what to do. */
function connect(path: string): VfioUserClient {
  try {
    return new VfioUserClient(path);
  } catch (error) {
    const advice = error instanceof Errno ? CONNECT_ADVICE[error.code] : undefined;
    throw advice === undefined ? error : new Errno((error as Errno).code, `${path}: ${advice}`);
  }
}

const CONNECT_ADVICE: Partial<Record<string, string>> = {
  ENOENT: 'there is no such socket; barter serve MACHINE makes one for each device',
  ECONNREFUSED: 'nobody listens there; barter serve MACHINE serves devices',
  EACCES: 'this user may not connect to it',
  EBUSY: 'the device has a client already, and takes one at a time',
  ETIMEDOUT: 'the process that listens there does not answer as a vfio-user server',
};

/** The lender's side. Memory is on from the start. */
export class LendingClient {
  readonly sizeBytes: number;
  private readonly client: VfioUserClient;

  /** Lends at most `mostBytes` of BAR 0. ENODEV if the device has less than a page of memory there. */
  constructor(path: string, mostBytes: number) {
    this.client = connect(path);
    const { sizeBytes, map } = this.client.regionInfo(BAR);
    map?.fd.close();
    this.sizeBytes = Math.min(sizeBytes, mostBytes);
    if (this.sizeBytes < 4096) {
      this.client.close();
      throw new Errno('ENODEV', `${path}: BAR 0 has ${sizeBytes} bytes, less than a page`);
    }
    this.memory(true);
  }

  export(): OwnedFd {
    const step = {
      op: 'export' as const,
      device: '',
      region: BAR,
      ranges: [[0, this.sizeBytes]] as [number, number][],
      as: '',
    };
    const { fds } = this.client.feature(featureArgument(step, 0));
    if (fds.length !== 1) throw new Errno('EPROTO', `the export brought ${fds.length} descriptors`);
    return fds[0];
  }

  /**
   * Sets or clears the memory bit. Clearing returns after the memory is unreachable. Returns the duration of the write,
   * in ms.
   */
  memory(on: boolean): number {
    const config = configOf(this.client);
    const command = runner.run(memoryCommand(config, on));
    const began = performance.now();
    runner.run(configWrite(config, PCI_COMMAND, 2, command));
    return performance.now() - began;
  }

  /** The hash of the lent bytes, read through the device. */
  sha256(): string {
    const hash = createHash('sha256');
    const part = Buffer.alloc(1 << 20);
    for (let at = 0; at < this.sizeBytes; at += part.length) {
      const bytes = part.subarray(0, Math.min(part.length, this.sizeBytes - at));
      this.client.readRegion(BAR, at, bytes);
      hash.update(bytes);
    }
    return hash.digest('hex');
  }

  close(): void {
    this.client.close();
  }
}

/** The borrower's side, for a served DMA engine: copies memory of this process into the lent BAR. */
export class BorrowingClient {
  readonly memory: Mapping;
  private readonly client: VfioUserClient;
  private readonly driver: IoatDriver;
  private readonly sizeBytes: number;

  constructor(path: string, sizeBytes: number) {
    this.client = connect(path);
    try {
      this.driver = new IoatDriver(this.client);
    } catch (error) {
      this.client.close();
      throw error;
    }
    this.sizeBytes = sizeBytes;
    const memfd = createMemfd('to lend', sizeBytes);
    this.memory = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes, writable: true, what: 'own memory' });
    this.client.dmaMap(MEMORY_IOVA, sizeBytes, READ_WRITE, memfd.fd);
    memfd.close();
  }

  /** The borrower's server imports the buffer. ENODEV while it is revoked. */
  map(buffer: OwnedFd): void {
    this.client.dmaMap(LENT_IOVA, this.sizeBytes, READ_WRITE, buffer.fd);
  }

  unmap(): void {
    this.client.dmaUnmap(LENT_IOVA, this.sizeBytes);
  }

  /** Lets the engine copy `length` bytes of `memory` into the lent BAR. */
  copy(length = this.sizeBytes): CopyStatus {
    return this.driver.copy(MEMORY_IOVA, LENT_IOVA, length);
  }

  close(): void {
    this.driver.close();
    this.memory.close();
    this.client.close();
  }
}
