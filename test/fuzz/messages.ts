/** Messages for the server's fuzzer: well-formed ones with values at the limits, and mutations of them. */
import { O_CLOEXEC, O_RDWR } from '../../src/abi/fcntl.ts';
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMD_RESET,
  IOAT_CHANCMD_SUSPEND,
  IOAT_CHANCMP_OFFSET,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
} from '../../src/abi/ioat.ts';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
} from '../../src/abi/vfio-feature.ts';
import {
  VFIO_USER_COMMAND_NAMES,
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_VERSION,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
} from '../../src/abi/vfio-user.ts';
import { MODEL_BYTES, MODEL_START } from './model.ts';
import type { FuzzRandom } from './random.ts';

export interface FuzzMessage {
  command: number;
  payload: Buffer;
  /** The kinds of descriptors to send with it. */
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

/** struct vfio_user_region_access. */
export function access(offset: number, region: number, count: number): Buffer {
  return Buffer.concat([u64(offset), words(region, count)]);
}

/** A write of COMMAND: memory and bus mastering on. */
export const MEMORY_ON = Buffer.concat([access(PCI_COMMAND, VFIO_PCI_CONFIG_REGION_INDEX, 2), Buffer.from([6, 0])]);

const memoryOn = () => message(VFIO_USER_REGION_WRITE, Buffer.from(MEMORY_ON));

const region = (random: FuzzRandom) => (random.chance(8) ? random.edge() : random.pick([0, 0, 0, 2, 7, 7]));

function read(random: FuzzRandom): FuzzMessage {
  const count = random.chance(200) ? random.below(1 << 20) : random.below(random.chance(10) ? 70_000 : 16);
  return message(VFIO_USER_REGION_READ, Buffer.concat([u64(random.edge()), words(region(random), count)]));
}

function write(random: FuzzRandom): FuzzMessage {
  const data = Buffer.alloc(random.chance(30) ? random.below(10_000) : random.pick([1, 2, 4, 4, 4, 8]));
  for (let i = 0; i < Math.min(data.length, 16); i++) data[i] = random.bits();
  // Mostly a place where a write has an effect: COMMAND, PMCSR, DEVCTL, and the engine's registers.
  const offset = random.chance(2) ? random.edge() : random.pick([4, 0x44, 0x48, 0x0c, 0x00, 0x80, 0x90]);
  return message(VFIO_USER_REGION_WRITE, Buffer.concat([u64(offset), words(region(random), data.length), data]));
}

/** The engine's first channel: the chain's address, the descriptor count, and its commands. */
function kick(random: FuzzRandom): FuzzMessage {
  const channel = IOAT_CHANNEL_MMIO_SIZE;
  const write = (offset: number, bytes: Buffer) =>
    message(VFIO_USER_REGION_WRITE, Buffer.concat([access(channel + offset, 0, bytes.length), bytes]));
  switch (random.below(6)) {
    case 0:
      return write(IOAT_CHAINADDR_OFFSET, u64(64 * random.below(64) + (random.chance(3) ? 32 * 4096 : 0)));
    case 1:
      return write(IOAT_CHANCMP_OFFSET, u64(random.chance(4) ? random.edge() : 4096 * 3));
    case 2:
      return write(IOAT_CHANCMD_OFFSET, Buffer.from([random.pick([IOAT_CHANCMD_RESET, IOAT_CHANCMD_SUSPEND, 0x10])]));
    case 3:
      return write(IOAT_CHANERR_OFFSET, Buffer.alloc(4, 0xff));
    default:
      return write(IOAT_CHAN_DMACOUNT_OFFSET, words(random.below(20)).subarray(0, 2));
  }
}

/** Bytes that only this client writes, so their content is known (model.ts). */
function modelled(random: FuzzRandom): FuzzMessage {
  const length = random.chance(20) ? random.below(5000) : random.pick([1, 2, 4, 4, 8, 64]);
  const offset = MODEL_START + random.below(random.chance(4) ? MODEL_BYTES - 5000 : 128);
  if (random.chance(2)) return message(VFIO_USER_REGION_READ, access(offset, 0, length));
  const data = Buffer.alloc(length, random.bits());
  return message(VFIO_USER_REGION_WRITE, Buffer.concat([access(offset, 0, length), data]));
}

function writeMulti(random: FuzzRandom): FuzzMessage {
  const count = random.below(random.chance(50) ? 3000 : 10);
  const writes = Array.from({ length: count }, () =>
    Buffer.concat([u64(random.edge()), words(region(random), random.below(10)), words(random.bits(), random.bits())]),
  );
  return message(VFIO_USER_REGION_WRITE_MULTI, Buffer.concat([u64(count), ...writes]));
}

function dmaMap(random: FuzzRandom): FuzzMessage {
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

function dmaUnmap(random: FuzzRandom): FuzzMessage {
  if (random.chance(20)) return message(VFIO_USER_DMA_UNMAP, Buffer.concat([words(24, 2), u64(0), u64(0)]));
  const size = 4096 * (1 + random.below(64));
  return message(VFIO_USER_DMA_UNMAP, Buffer.concat([words(24, 0), u64(4096 * random.below(64)), u64(size)]));
}

function setIrqs(random: FuzzRandom): FuzzMessage {
  const kind = random.pick([1, 2, 4]);
  const action = random.pick([8, 16, 32, 32, 32]);
  const index = random.chance(8) ? random.edge() : random.pick([2, 2, 2, 0, 3, 4]);
  const count = random.below(6);
  const fds: FdKind[] = kind === 4 ? new Array(random.chance(4) ? random.below(5) : count).fill('eventfd') : [];
  const data = Buffer.alloc(kind === 2 ? count : 0, 1);
  const head = words(20 + data.length, kind | action, index, random.chance(6) ? random.edge() : 0, count);
  return message(VFIO_USER_DEVICE_SET_IRQS, Buffer.concat([head, data]), fds);
}

function feature(random: FuzzRandom): FuzzMessage {
  const number = random.chance(3) ? VFIO_DEVICE_FEATURE_DMA_BUF : random.below(14);
  const operation = random.pick([1, 2, 4, 5, 6, 7]) << 16;
  let body: Buffer = Buffer.alloc(random.below(33));
  if (number === VFIO_DEVICE_FEATURE_DMA_BUF) {
    const ranges = random.below(3);
    const parts = Array.from({ length: ranges }, () =>
      Buffer.concat([u64(4096 * random.below(16)), u64(4096 * (1 + random.below(8)))]),
    );
    body = Buffer.concat([words(random.pick([0, 0, 0, 2, 7]), O_CLOEXEC | O_RDWR, 0, ranges), ...parts]);
  }
  if (number === VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE) body = words(random.below(8), -1);
  if (number === VFIO_DEVICE_FEATURE_DMA_LOGGING_START) {
    body = Buffer.concat([u64(4096), words(random.below(3), 0), u64(0), u64(64 * 4096), u64(2 ** 32), u64(4096)]);
  }
  if (number === VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) {
    body = Buffer.concat([u64(4096 * random.below(70)), u64(4096 * (1 + random.below(64))), u64(4096)]);
  }
  const argsz = random.chance(8) ? random.edge() : 8 + body.length + (random.chance(4) ? 64 : 0);
  return message(VFIO_USER_DEVICE_FEATURE, Buffer.concat([words(argsz, number | operation), body]));
}

const query = (command: number, size: number) => (random: FuzzRandom) => {
  const argsz = random.chance(6) ? random.edge() : size + (random.chance(2) ? 100 : 0);
  const bytes = Buffer.concat([words(argsz, 0, random.below(11)), Buffer.alloc(size)]).subarray(0, size);
  return message(command, bytes);
};

type Generator = (random: FuzzRandom) => FuzzMessage;

/** Generators for known commands. Any other command of the protocol gets plausible bytes. */
const GENERATORS: ReadonlyMap<number, readonly Generator[]> = new Map([
  [VFIO_USER_REGION_READ, [read, read, modelled, modelled]],
  [VFIO_USER_REGION_WRITE, [write, write, memoryOn, kick, kick, kick]],
  [VFIO_USER_REGION_WRITE_MULTI, [writeMulti]],
  [VFIO_USER_DMA_MAP, [dmaMap, dmaMap]],
  [VFIO_USER_DMA_UNMAP, [dmaUnmap]],
  [VFIO_USER_DEVICE_SET_IRQS, [setIrqs]],
  [VFIO_USER_DEVICE_FEATURE, [feature, feature]],
  [VFIO_USER_DEVICE_GET_INFO, [query(VFIO_USER_DEVICE_GET_INFO, 16)]],
  [VFIO_USER_DEVICE_GET_REGION_INFO, [query(VFIO_USER_DEVICE_GET_REGION_INFO, 32)]],
  [VFIO_USER_DEVICE_GET_IRQ_INFO, [query(VFIO_USER_DEVICE_GET_IRQ_INFO, 16)]],
  [VFIO_USER_DEVICE_GET_REGION_IO_FDS, [query(VFIO_USER_DEVICE_GET_REGION_IO_FDS, 16)]],
  [VFIO_USER_X_GET_PCI_HOT_RESET_INFO, [query(VFIO_USER_X_GET_PCI_HOT_RESET_INFO, 12)]],
]);

/** Commands that undo the work of others, and commands that belong only at the start. */
const RARE = new Set([VFIO_USER_VERSION, VFIO_USER_DEVICE_RESET, VFIO_USER_X_PCI_HOT_RESET, VFIO_USER_DMA_READ]);
RARE.add(VFIO_USER_DMA_WRITE);

const plausible =
  (command: number): Generator =>
  (random) => {
    const length = random.pick([0, 8, 8, 12, 16, 24, 40, random.below(100)]);
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = random.chance(3) ? random.bits() : 0;
    if (length >= 4) bytes.writeUInt32LE(random.chance(3) ? random.edge() >>> 0 : length, 0);
    if (length >= 8) bytes.writeUInt32LE(random.chance(3) ? random.edge() >>> 0 : random.below(64), 4);
    return message(command, bytes);
  };

const COMMANDS = [...VFIO_USER_COMMAND_NAMES.keys(), VFIO_USER_X_GET_PCI_HOT_RESET_INFO, VFIO_USER_X_PCI_HOT_RESET];
const FREQUENT: readonly Generator[] = COMMANDS.filter((command) => !RARE.has(command)).flatMap(
  (command) => GENERATORS.get(command) ?? [plausible(command)],
);

function wholeMessage(random: FuzzRandom): FuzzMessage {
  if (!random.chance(60)) return random.pick(FREQUENT)(random);
  const command = random.chance(5) ? random.below(40) : random.pick([...RARE]);
  return plausible(command)(random);
}

function message(command: number, payload: Buffer, fds: FdKind[] = []): FuzzMessage {
  return { command, payload, fds };
}

/** A message. One in four is mutated: bytes flipped, cut, extended, or with other descriptors. */
export function randomMessage(random: FuzzRandom): FuzzMessage {
  const whole = wholeMessage(random);
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
