/** After the reply to a request that stops a function, the function begins no further DMA. */
import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { test } from 'node:test';
import { ioat_dma_descriptor } from '../../src/abi/ioat.ts';
import { PCI_COMMAND, PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, PCI_PM_CTRL } from '../../src/abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, vfio_pci_hot_reset } from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  VFIO_USER_X_PCI_HOT_RESET,
  vfio_user_device_info,
  vfio_user_dma_map,
  vfio_user_dma_region_access,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { message, RawClient, type RawHeader, type RawReply } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();
const PAGE = 4096;
/** Far less than the device copies with one descriptor. */
const LIMIT = 64;
const COPY_BYTES = 16 * LIMIT;
const [RING, SOURCE, REMOTE] = [0x100000, 0x101000, 0x200000];
/** Where `served.ts` has the capabilities of the borrower. */
const [PM, EXPRESS] = [0x40, 0x48];

type Request = [RawHeader, Uint8Array?];

function regionWrite(region: number, offset: number, ...bytes: number[]): Request {
  const head = vfio_user_region_access.encode({ offset, region, count: bytes.length });
  return [{ command: VFIO_USER_REGION_WRITE }, Buffer.concat([head, Uint8Array.from(bytes)])];
}

const configWrite = (offset: number, value: number): Request =>
  regionWrite(VFIO_PCI_CONFIG_REGION_INDEX, offset, value & 0xff, value >> 8);

const STOPS: readonly [string, Request][] = [
  ['an FLR by config space', configWrite(EXPRESS + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR)],
  ['DEVICE_RESET', [{ command: VFIO_USER_DEVICE_RESET }]],
  ['a hot reset', [{ command: VFIO_USER_X_PCI_HOT_RESET }, vfio_pci_hot_reset.encode({ argsz: 12 })]],
  ['bus mastering off', configWrite(PCI_COMMAND, 2)],
  ['D3hot', configWrite(PM + PCI_PM_CTRL, 3)],
];

/** A client of the engine, which copies between the client's file and its memory without a descriptor. */
class Owner {
  readonly client: RawClient;
  readonly dma: RawReply[] = [];
  private readonly memfd = createMemfd('test', 2 * PAGE);

  constructor() {
    this.client = new RawClient(server.path('borrower'));
    const json = Buffer.from(`{"capabilities":{"max_data_xfer_size":${LIMIT},"max_msg_fds":1}}\0`);
    assert.equal(this.call([{ command: VFIO_USER_VERSION }, Buffer.concat([Buffer.alloc(4), json])]), 0);
    this.map(RING, 2 * PAGE, [this.memfd.fd]);
    this.map(REMOTE, PAGE, []);
    this.call(configWrite(PCI_COMMAND, 6));
  }

  /** Returns the errno of the reply. Commands of the server that come before it are kept. */
  call([header, payload]: Request, fds: readonly number[] = []): number {
    this.client.send(message({ id: 7, ...header }, payload), fds);
    for (let each = this.client.receive(); each !== null; each = this.client.receive()) {
      if (each.isReply) return each.error;
      this.dma.push(each);
    }
    throw new Error('the server hung up');
  }

  /** Starts a copy, and returns once its first message to the client's memory is there. */
  copy(source: number, destination: number): RawReply {
    const descriptor = { size: COPY_BYTES, src_addr: source, dst_addr: destination };
    writeSync(this.memfd.fd, ioat_dma_descriptor.encode(descriptor), 0, 64, 0);
    this.call(regionWrite(0, 0x90, 0, 0, RING >> 16, 0, 0, 0, 0, 0));
    this.call(regionWrite(0, 0x86, 1, 0));
    if (this.dma.length === 0) this.dma.push(this.client.receive()!);
    return this.dma[0]!;
  }

  /** Answers a DMA_READ or DMA_WRITE of the device. */
  answer({ id, command, payload }: RawReply): void {
    const isRead = command === VFIO_USER_DMA_READ;
    const head = payload.subarray(0, vfio_user_dma_region_access.sizeof);
    this.client.sendMessage({ id, command, flags: 1 }, isRead ? Buffer.concat([head, Buffer.alloc(LIMIT)]) : head);
  }

  close(): void {
    this.client.close();
    this.memfd.close();
  }

  private map(addr: number, size: number, fds: readonly number[]): void {
    const request = vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr, size });
    assert.equal(this.call([{ command: VFIO_USER_DMA_MAP }, request], fds), 0);
  }
}

const info: Request = [{ command: VFIO_USER_DEVICE_GET_INFO }, vfio_user_device_info.encode({ argsz: 16 })];

for (const [name, stop] of STOPS) {
  for (const [direction, source, destination, command] of [
    ['reads', REMOTE, SOURCE, VFIO_USER_DMA_READ],
    ['writes', SOURCE, REMOTE, VFIO_USER_DMA_WRITE],
  ] as const) {
    test(`${name} while the device ${direction}: no DMA begins after the reply`, async () => {
      await server.assertNothingLeft();
      const owner = new Owner();
      try {
        const first = owner.copy(source, destination);
        assert.equal(first.command, command);
        assert.equal(owner.call(stop), 0);
        const before = owner.dma.length;
        owner.answer(first);
        for (let i = 0; i < 4; i++) assert.equal(owner.call(info), 0);
        const late = owner.dma.slice(before);
        assert.deepEqual(
          late.map((each) => each.command),
          [],
        );
      } finally {
        owner.close();
      }
      await server.assertNothingLeft();
    });
  }
}
