/** Deviations of replies: late, in parts, out of order, of wrong sizes, refused, or cut off by the end. */
import { ERRNO } from '../../../abi/errno.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_READ,
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_VERSION,
  vfio_user_dma_region_access,
} from '../../../abi/vfio-user.ts';
import { commandName } from '../../exchange.ts';
import { messageBytes } from '../../peer.ts';
import { type ClientDeviation, deviationsOf, type Outgoing, replyBytes } from '../deviation.ts';
import type { RightReply } from '../device.ts';

type ReplyChange = (right: RightReply) => Outgoing[];

const whole = (right: RightReply, rest: Partial<Outgoing> = {}): Outgoing => ({
  bytes: replyBytes(right),
  fds: right.fds,
  ...rest,
});

/** Changes the first reply to a command, and answers the next ones rightly. */
function once(change: ReplyChange) {
  return { reply: (right: RightReply, earlier: number) => (earlier === 0 ? change(right) : [whole(right)]) };
}

const always = (change: ReplyChange) => ({ reply: change });
const late =
  (afterMs: number): ReplyChange =>
  (right) => [whole(right, { afterMs })];
const silent: ReplyChange = () => [];

/** The bytes of a reply, cut at these places. The descriptors come with the first part. */
function cutAt(right: RightReply, places: readonly number[]): Outgoing[] {
  const bytes = replyBytes(right);
  const ends = [...places.filter((place) => place < bytes.length), bytes.length];
  return ends.map((end, i) => ({
    bytes: bytes.subarray(i === 0 ? 0 : ends[i - 1], end),
    fds: i === 0 ? right.fds : [],
    afterMs: i === 0 ? 0 : 2,
  }));
}

const eachByte: ReplyChange = (right) =>
  cutAt(
    right,
    Array.from({ length: 4096 }, (_, i) => i + 1),
  );
const withSize =
  (wrong: (size: number) => number): ReplyChange =>
  (right) => [{ bytes: replyBytes(right, wrong(VFIO_USER_HEADER_SIZE + right.payload.length)), fds: right.fds }];
const withPayload =
  (change: (payload: Buffer) => Buffer): ReplyChange =>
  (right) => [whole({ ...right, payload: change(Buffer.from(right.payload)) })];
const withBytes =
  (change: (bytes: Buffer) => void): ReplyChange =>
  (right) => {
    const bytes = replyBytes(right);
    change(bytes);
    return [{ bytes, fds: right.fds }];
  };

const ASKED: readonly number[] = [
  VFIO_USER_VERSION,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_REGION_READ,
];
const nameOf = (command: number) => commandName(command).replace('DEVICE_', '').toLowerCase().replaceAll('_', '-');

/** The same change of the reply to each command that a client sends at the start. */
function forEach(
  declare: ReturnType<typeof deviationsOf>,
  name: string,
  says: (command: string) => string,
  change: ReplyChange,
  commands = ASKED,
): ClientDeviation[] {
  return commands.map((command) =>
    declare(`${name}-${nameOf(command)}`, says(commandName(command)), command, once(change)),
  );
}

const inTime = deviationsOf('time', 'Command Concurrency', true);
const never = deviationsOf('time', 'Command Concurrency', false);
const TIME = [
  inTime('each-late', 'Each reply comes after 20 ms.', null, always(late(20))),
  ...forEach(inTime, 'late', (name) => `The first reply to ${name} comes after a second.`, late(1000)),
  ...forEach(never, 'silent', (name) => `${name} is never answered.`, silent),
];

/** The text has commands done in order. It does not say so of their replies, which ids tell apart. */
const overtaken = { ...always((right) => [whole(right, { yields: true })]), reorders: true as const };
const lawful = deviationsOf('stream', 'Header', true);
const wrong = deviationsOf('stream', 'Header', false);
const STREAM = [
  lawful(
    'each-byte',
    'The first reply to DEVICE_GET_INFO comes byte by byte.',
    VFIO_USER_DEVICE_GET_INFO,
    once(eachByte),
  ),
  lawful(
    'header-then-payload',
    'Each reply comes as its header, then its payload.',
    null,
    always((right) => cutAt(right, [16])),
  ),
  lawful(
    'half-headers',
    'Each reply comes with its header in two parts.',
    null,
    always((right) => cutAt(right, [7])),
  ),
  lawful(
    'version-in-parts',
    'The reply to VERSION comes in parts of 10 bytes.',
    VFIO_USER_VERSION,
    once((right) => cutAt(right, [10, 20, 30, 40, 50, 60])),
  ),
  lawful('reversed', 'Replies to commands that are under way together come in reverse order.', null, overtaken),
  ...[VFIO_USER_REGION_READ, VFIO_USER_DMA_MAP].map((command) =>
    lawful(
      `overtaken-${nameOf(command)}`,
      `The replies to ${commandName(command)} come after those to later commands.`,
      command,
      overtaken,
    ),
  ),
  ...forEach(
    wrong,
    'other-id',
    (name) => `The reply to ${name} has another id.`,
    withBytes((bytes) => bytes.writeUInt16LE((bytes.readUInt16LE(0) + 1) & 0xffff, 0)),
  ),
  ...forEach(
    wrong,
    'other-command',
    (name) => `The reply to ${name} names another command.`,
    withBytes((bytes) => bytes.writeUInt16LE(0x77, 2)),
    [VFIO_USER_DEVICE_GET_INFO, VFIO_USER_REGION_READ],
  ),
  ...forEach(
    wrong,
    'twice',
    (name) => `The reply to ${name} comes twice.`,
    (right) => [whole(right), whole(right)],
    [VFIO_USER_DEVICE_GET_INFO, VFIO_USER_REGION_READ],
  ),
  wrong(
    'stray',
    'A reply to nothing comes before the right one.',
    VFIO_USER_DEVICE_GET_INFO,
    once((right) => [whole({ ...right, id: (right.id + 0x1000) & 0xffff }), whole(right)]),
  ),
  wrong(
    'unknown-flags',
    'The reply to DEVICE_GET_INFO has flag bits that nobody knows.',
    VFIO_USER_DEVICE_GET_INFO,
    once(withBytes((bytes) => bytes.writeUInt32LE(0xffc1, 8))),
  ),
  wrong(
    'type-of-a-command',
    'The reply to DEVICE_GET_INFO has the type of a command.',
    VFIO_USER_DEVICE_GET_INFO,
    once(withBytes((bytes) => bytes.writeUInt32LE(0, 8))),
  ),
  wrong(
    'type-unknown',
    'The reply to DEVICE_GET_INFO has a type that is not known.',
    VFIO_USER_DEVICE_GET_INFO,
    once(withBytes((bytes) => bytes.writeUInt32LE(7, 8))),
  ),
  wrong(
    'unknown-command',
    'The server sends a command that is not in the table.',
    VFIO_USER_DEVICE_GET_INFO,
    once((right) => [{ bytes: messageBytes(0x7000, new Uint8Array(0), { id: 9 }) }, whole(right)]),
  ),
  wrong(
    'dma-nowhere',
    'The device reads memory that was never mapped.',
    VFIO_USER_DEVICE_GET_INFO,
    once((right) => [{ bytes: dmaRead(1n << 60n, 4096n) }, whole(right)]),
  ),
  wrong(
    'dma-too-long',
    'The device reads 2^63 bytes.',
    VFIO_USER_DEVICE_GET_INFO,
    once((right) => [{ bytes: dmaRead(0n, 1n << 63n) }, whole(right)]),
  ),
  wrong(
    'dma-short',
    'The device sends a DMA_READ without its struct.',
    VFIO_USER_DEVICE_GET_INFO,
    once((right) => [{ bytes: messageBytes(VFIO_USER_DMA_READ, new Uint8Array(0), { id: 9 }) }, whole(right)]),
  ),
  wrong(
    'garbage',
    'Text comes instead of the reply to DEVICE_GET_INFO.',
    VFIO_USER_DEVICE_GET_INFO,
    once(() => [{ bytes: Buffer.from('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n') }]),
  ),
];

function dmaRead(addr: bigint, count: bigint): Buffer {
  return messageBytes(VFIO_USER_DMA_READ, vfio_user_dma_region_access.encode({ addr, count }), { id: 9 });
}

const sizes = deviationsOf('size', 'Header', false);
const SIZE = [
  ...forEach(
    sizes,
    'size-0',
    (name) => `The reply to ${name} says that it has 0 bytes.`,
    withSize(() => 0),
  ),
  ...forEach(
    sizes,
    'size-4-gib',
    (name) => `The reply to ${name} says that it has 4 GiB.`,
    withSize(() => 0xffff_ffff),
  ),
  ...forEach(
    sizes,
    'size-less',
    (name) => `The reply to ${name} says that it is 4 bytes shorter than it is.`,
    withSize((size) => size - 4),
  ),
  ...forEach(
    sizes,
    'empty',
    (name) => `The reply to ${name} has no payload.`,
    withPayload(() => Buffer.alloc(0)),
  ),
  ...forEach(
    sizes,
    'cut',
    (name) => `The reply to ${name} lacks its last 4 bytes.`,
    withPayload((payload) => payload.subarray(0, -4)),
  ),
  ...forEach(
    sizes,
    'more',
    (name) => `The reply to ${name} has 64 bytes more.`,
    withPayload((payload) => Buffer.concat([payload, Buffer.alloc(64)])),
  ),
  ...forEach(
    sizes,
    'huge',
    (name) => `The reply to ${name} has 8 MiB more.`,
    withPayload((payload) => Buffer.concat([payload, Buffer.alloc(8 << 20)])),
  ),
];

const refusals = deviationsOf('refusal', 'Header', false);
const refusing =
  (errno: number): ReplyChange =>
  (right) => [whole({ ...right, errno, payload: Buffer.alloc(0), fds: [] })];
const ALL = [...ASKED, VFIO_USER_REGION_WRITE, VFIO_USER_DMA_MAP, VFIO_USER_DEVICE_SET_IRQS, VFIO_USER_DEVICE_RESET];
const REFUSAL = [
  ...forEach(refusals, 'einval', (name) => `${name} is refused with EINVAL.`, refusing(ERRNO.EINVAL), ALL),
  ...forEach(
    refusals,
    'errno-0',
    (name) => `${name} is refused with the errno 0.`,
    withBytes((bytes) => bytes.writeUInt32LE(0x21, 8)),
  ),
  ...forEach(refusals, 'errno-huge', (name) => `${name} is refused with the errno 2^32-1.`, refusing(0xffff_ffff)),
];

const ends = deviationsOf('end', 'Server Disconnection', false);
const half: ReplyChange = (right) => [{ bytes: replyBytes(right).subarray(0, 20), fds: right.fds, ends: true }];
const END = [
  ...forEach(
    ends,
    'instead-of',
    (name) => `The server leaves instead of a reply to ${name}.`,
    () => [{ bytes: Buffer.alloc(0), ends: true }],
    ALL,
  ),
  ...forEach(ends, 'half-of', (name) => `The server leaves in the middle of its reply to ${name}.`, half),
  ...forEach(
    ends,
    'after',
    (name) => `The server leaves after its reply to ${name}.`,
    (right) => [whole(right, { ends: true })],
  ),
];

export const MESSAGE_DEVIATIONS: readonly ClientDeviation[] = [TIME, STREAM, SIZE, REFUSAL, END].flat();
