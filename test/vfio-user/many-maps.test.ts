/**
 * A guest behind a virtual IOMMU: it maps a gigabyte page by page, like Linux 7.3's vfio_pci_driver_test. It takes
 * longer than other tests: a quarter of a million messages, each with a descriptor.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_OFFSET,
  IOAT_CHANSTS_STATUS,
  ioat_dma_descriptor,
} from '../../src/abi/ioat.ts';
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../../src/abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import { Pinned } from '../../src/linux/ffi.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { Message } from '../../src/linux/message.ts';
import { InProcessServer } from './in-process.ts';
import { message, type RawClient, type RawHeader } from './raw-client.ts';
import { mapsOf } from './served.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const PAGES = GIB / PAGE;
/** Messages under way: fewer than make the server stop reading. */
const BATCH = 32;
/** The address at which the guest's IOMMU puts its memory. */
const BASE = 2 * GIB;
const server = new InProcessServer();
after(() => server.close());

/** The file's page behind each page of the guest's addresses. Neighbours there are not neighbours in the file. */
const pageAt = (index: number) => (index * 5) % PAGES;

class Guest {
  private readonly client: RawClient = server.ready('borrower');
  private readonly outgoing = new Message(1, 1);
  readonly memfd = createMemfd('test', GIB);
  readonly memory = Mapping.map({ fd: this.memfd.fd, offset: 0, sizeBytes: GIB, writable: true, what: 'test' });

  constructor() {
    const command = Buffer.from([PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0]);
    this.write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
  }

  /** Sends `count` messages, as many at once as may wait; returns how many were refused. */
  send(count: number, messageAt: (i: number) => Buffer, fds: number[]): number {
    let refused = 0;
    for (let at = 0; at < count; at += BATCH) {
      const end = Math.min(count, at + BATCH);
      for (let i = at; i < end; i++) {
        const bytes = messageAt(i);
        const pinned = new Pinned(bytes.length);
        pinned.bytes.set(bytes);
        this.outgoing.setIov(0, pinned.address, bytes.length, pinned.bytes);
        assert.equal(this.outgoing.sendmsg(this.client.socket.fd, 0, fds), bytes.length);
      }
      server.pump();
      for (let i = at; i < end; i++) if (this.client.tryReceive()?.error !== 0) refused += 1;
    }
    return refused;
  }

  mapAll(): number {
    const { sizeof } = vfio_user_dma_map;
    const map = (i: number) => ({
      argsz: sizeof,
      flags: 3,
      offset: pageAt(i) * PAGE,
      addr: BASE + i * PAGE,
      size: PAGE,
    });
    const bytesOf = (i: number) => message({ command: VFIO_USER_DMA_MAP }, vfio_user_dma_map.encode(map(i)));
    return this.send(PAGES, bytesOf, [this.memfd.fd]);
  }

  /** Unmaps from page `first` on, `step` pages with each message. */
  unmap(first: number, count: number, step: number): number {
    const unmap = (i: number) => ({ argsz: 24, addr: BASE + (first + i * step) * PAGE, size: step * PAGE });
    const bytesOf = (i: number) => message({ command: VFIO_USER_DMA_UNMAP }, vfio_user_dma_unmap.encode(unmap(i)));
    return this.send(count / step, bytesOf, []);
  }

  /** Copies with a one-descriptor chain in the guest's first page; returns whether the engine finished it. */
  copies(source: number, target: number, size: number): boolean {
    const fields = { size, src_addr: source, dst_addr: target, next: BASE };
    this.memory.write(pageAt(0) * PAGE, ioat_dma_descriptor.encode(fields));
    const address = Buffer.alloc(8);
    address.writeBigUInt64LE(BigInt(BASE));
    // Clears the previous chain's error, if there was one.
    this.write(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANERR_OFFSET, Buffer.alloc(4, 0xff));
    this.write(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAINADDR_OFFSET, address);
    this.write(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAN_DMACOUNT_OFFSET, Buffer.from([1, 0]));
    const read = vfio_user_region_access.encode({
      offset: IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANSTS_OFFSET,
      region: 0,
      count: 8,
    });
    const status = this.call({ command: VFIO_USER_REGION_READ }, read).subarray(-8).readUInt32LE();
    return (status & IOAT_CHANSTS_STATUS) === IOAT_CHANSTS_DONE;
  }

  close(): void {
    this.client.close();
    server.pump();
    this.memory.close();
    this.memfd.close();
  }

  private write(region: number, offset: number, bytes: Buffer): void {
    const payload = Buffer.concat([vfio_user_region_access.encode({ offset, region, count: bytes.length }), bytes]);
    this.call({ command: VFIO_USER_REGION_WRITE }, payload);
  }

  private call(header: RawHeader, payload: Uint8Array): Buffer {
    this.client.send(message(header, payload));
    server.pump();
    const reply = this.client.tryReceive();
    assert.equal(reply?.error, 0);
    return reply!.payload;
  }
}

test('262,144 pages of one memfd take one mapping, until the last is unmapped; the device reaches each', () => {
  const guest = new Guest();
  const own = mapsOf('memfd:test').length;
  assert.equal(guest.mapAll(), 0);
  assert.equal(mapsOf('memfd:test').length, own + 1, 'one mapping of the server');
  const byte = Buffer.alloc(1);
  for (let i = 0; i < 200; i++) {
    // Six pages that are neighbours only for the device.
    const from = 8 + ((i * 7919) % (PAGES / 2));
    const to = PAGES - 16 - from;
    guest.memory.write(pageAt(from) * PAGE + 100, Buffer.alloc(1, i));
    guest.memory.write(pageAt(from + 5) * PAGE + 99, Buffer.alloc(1, i + 50));
    assert.ok(guest.copies(BASE + from * PAGE + 100, BASE + to * PAGE + 200, 5 * PAGE));
    guest.memory.read(pageAt(to) * PAGE + 200, byte);
    assert.equal(byte[0], i);
    guest.memory.read(pageAt(to + 5) * PAGE + 199, byte);
    assert.equal(byte[0], i + 50);
  }
  // Unmaps one by one, from both ends, and many at once. The guest's first page is the last.
  assert.equal(guest.unmap(64, 4096, 1), 0);
  for (const page of [64, 4159]) assert.ok(!guest.copies(BASE + page * PAGE, BASE + PAGE, 8), 'unmapped');
  assert.ok(guest.copies(BASE + 4160 * PAGE, BASE + PAGE, 8), 'its neighbour is not');
  assert.equal(guest.unmap(PAGES - 4096, 4096, 1), 0);
  assert.equal(guest.unmap(4096 + 64, PAGES - 2 * 4096 - 64, 64), 0);
  assert.equal(mapsOf('memfd:test').length, own + 1, 'as long as one page is left');
  assert.equal(guest.unmap(0, 64, 64), 0);
  assert.equal(mapsOf('memfd:test').length, own);
  guest.close();
});
