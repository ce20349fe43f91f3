/**
 * Messages for the fuzzer of the server: well-formed ones with values where things break, and what mutation makes of
 * them.
 */
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_VERSION,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
} from '../../src/abi/vfio-user.ts';
import type { Random } from './random.ts';

export interface FuzzMessage {
  command: number;
  payload: Buffer;
  /** Kinds of descriptors that go along. */
  fds: FdKind[];
}

export const FD_KINDS = ['memfd', 'file', 'eventfd', 'null', 'dma-buf'] as const;
export type FdKind = (typeof FD_KINDS)[number];

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * i);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const region = (random: Random) => (random.chance(8) ? random.edge() : random.pick([0, 0, 0, 2, 7, 7]));

function read(random: Random): FuzzMessage {
  const count = random.chance(200) ? random.below(1 << 20) : random.below(random.chance(10) ? 70_000 : 16);
  return message(VFIO_USER_REGION_READ, Buffer.concat([u64(random.edge()), words(region(random), count)]));
}

function write(random: Random): FuzzMessage {
  const data = Buffer.alloc(random.chance(30) ? random.below(10_000) : random.pick([1, 2, 4, 4, 4, 8]));
  for (let i = 0; i < Math.min(data.length, 16); i++) data[i] = random.bits();
  // Mostly where a write means something: COMMAND, PMCSR and DEVCTL, the engine's registers and ring.
  const offset = random.chance(2) ? random.edge() : random.pick([4, 0x44, 0x48, 0x0c, 0x00, 0x1000, 0x1010]);
  return message(VFIO_USER_REGION_WRITE, Buffer.concat([u64(offset), words(region(random), data.length), data]));
}

/** A copy by the engine between addresses that may be mapped. */
function ring(random: Random): FuzzMessage {
  const at = 0x1000 + 32 * random.below(8);
  const length = random.chance(100) ? random.edge() : random.below(9000);
  const descriptor = Buffer.concat([
    u64(4096 * random.below(64)),
    u64(4096 * random.below(64)),
    words(length, 0, 0, 0),
  ]);
  return message(VFIO_USER_REGION_WRITE, Buffer.concat([u64(at), words(0, 32), descriptor]));
}

/** The engine's CONTROL, so that it runs, or its doorbell. */
function kick(random: Random): FuzzMessage {
  const [at, value] = random.pick([
    [0x00, 1 + 2 * random.below(2)],
    [0x0c, random.below(8)],
    [0x04, 2],
  ]);
  return message(VFIO_USER_REGION_WRITE, Buffer.concat([u64(at), words(0, 4, value)]));
}

function writeMulti(random: Random): FuzzMessage {
  const count = random.below(random.chance(50) ? 3000 : 10);
  const writes = Array.from({ length: count }, () =>
    Buffer.concat([u64(random.edge()), words(region(random), random.below(10)), words(random.bits(), random.bits())]),
  );
  return message(VFIO_USER_REGION_WRITE_MULTI, Buffer.concat([u64(count), ...writes]));
}

function dmaMap(random: Random): FuzzMessage {
  const fds: FdKind[] = random.chance(3) ? [] : [random.pick(FD_KINDS)];
  const offset = random.chance(4) ? random.edge() : 0;
  const size = random.chance(6) ? random.edge() : 4096 * (1 + random.below(16));
  const addr = random.chance(6) ? random.edge() : 4096 * random.below(64);
  return message(
    VFIO_USER_DMA_MAP,
    Buffer.concat([words(32, 1 + random.below(3)), u64(offset), u64(addr), u64(size)]),
    fds,
  );
}

function dmaUnmap(random: Random): FuzzMessage {
  if (random.chance(20)) return message(VFIO_USER_DMA_UNMAP, Buffer.concat([words(24, 2), u64(0), u64(0)]));
  const size = 4096 * (1 + random.below(64));
  return message(VFIO_USER_DMA_UNMAP, Buffer.concat([words(24, 0), u64(4096 * random.below(64)), u64(size)]));
}

function setIrqs(random: Random): FuzzMessage {
  const kind = random.pick([1, 2, 4]);
  const action = random.pick([8, 16, 32, 32, 32]);
  const index = random.chance(8) ? random.edge() : random.pick([2, 2, 2, 0, 3, 4]);
  const count = random.below(6);
  const fds: FdKind[] = kind === 4 ? new Array(random.chance(4) ? random.below(5) : count).fill('eventfd') : [];
  const data = Buffer.alloc(kind === 2 ? count : 0, 1);
  const head = words(20 + data.length, kind | action, index, random.chance(6) ? random.edge() : 0, count);
  return message(VFIO_USER_DEVICE_SET_IRQS, Buffer.concat([head, data]), fds);
}

function feature(random: Random): FuzzMessage {
  const number = random.chance(3) ? 11 : random.below(14);
  const operation = random.pick([1, 2, 4, 5, 6, 7]) << 16;
  let body: Buffer = Buffer.alloc(random.below(33));
  if (number === 11) {
    const ranges = random.below(3);
    const parts = Array.from({ length: ranges }, () =>
      Buffer.concat([u64(4096 * random.below(16)), u64(4096 * (1 + random.below(8)))]),
    );
    body = Buffer.concat([words(random.pick([0, 0, 0, 2, 7]), 0o2000002, 0, ranges), ...parts]);
  }
  const argsz = random.chance(8) ? random.edge() : 8 + body.length;
  return message(VFIO_USER_DEVICE_FEATURE, Buffer.concat([words(argsz, number | operation), body]));
}

const query = (command: number, size: number) => (random: Random) => {
  const argsz = random.chance(6) ? random.edge() : size + (random.chance(2) ? 100 : 0);
  const bytes = Buffer.concat([words(argsz, 0, random.below(11)), Buffer.alloc(size)]).subarray(0, size);
  return message(command, bytes);
};

const GENERATORS: readonly ((random: Random) => FuzzMessage)[] = [
  read,
  read,
  read,
  write,
  write,
  write,
  ring,
  kick,
  kick,
  writeMulti,
  dmaMap,
  dmaMap,
  dmaUnmap,
  setIrqs,
  feature,
  query(VFIO_USER_DEVICE_GET_INFO, 16),
  query(VFIO_USER_DEVICE_GET_REGION_INFO, 32),
  query(VFIO_USER_DEVICE_GET_IRQ_INFO, 16),
  query(VFIO_USER_DEVICE_GET_REGION_IO_FDS, 16),
  query(VFIO_USER_X_GET_PCI_HOT_RESET_INFO, 12),
  (random) => message(random.chance(10) ? VFIO_USER_DEVICE_RESET : VFIO_USER_REGION_READ, Buffer.alloc(0)),
  (random) => message(random.chance(20) ? VFIO_USER_X_PCI_HOT_RESET : VFIO_USER_REGION_READ, words(12, 0, 0)),
  (random) => message(random.chance(10) ? random.below(30) : VFIO_USER_VERSION, Buffer.alloc(random.below(40))),
];

function message(command: number, payload: Buffer, fds: FdKind[] = []): FuzzMessage {
  return { command, payload, fds };
}

/** A message, in one of four a mutated one: bytes flipped, cut, longer, with other descriptors. */
export function randomMessage(random: Random): FuzzMessage {
  const whole = random.pick(GENERATORS)(random);
  if (!random.chance(4)) return whole;
  let { payload, fds } = whole;
  switch (random.below(4)) {
    case 0:
      for (let i = 1 + random.below(3); i > 0 && payload.length > 0; i--) {
        payload[random.below(payload.length)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.bits() & 0xff]);
      }
      break;
    case 1:
      payload = payload.subarray(0, random.below(payload.length + 1));
      break;
    case 2:
      payload = Buffer.concat([payload, Buffer.alloc(random.below(64), random.bits())]);
      break;
    default:
      fds = Array.from({ length: random.below(5) }, () => random.pick(FD_KINDS));
  }
  return { command: whole.command, payload, fds };
}
