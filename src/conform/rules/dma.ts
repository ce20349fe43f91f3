/** DMA_READ and DMA_WRITE of a device that a driver makes work, and its interrupt. */
import { POLLIN } from '../../abi/poll.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_DMA_WRITE,
} from '../../abi/vfio-user.ts';
import { pollOne } from '../../linux/poll.ts';
import { PROPOSAL } from '../facts.ts';
import { type DmaAnswer, errorReply, replyTo } from '../memory.ts';
import * as request from '../requests.ts';
import { rulesOf } from '../rule.ts';
import type { Trial } from '../trial.ts';
import { demand, HANGS, needs, Outcome } from '../verdict.ts';
import { BASE, bytesOf, DeviceWork, FILL, SIZE } from '../work.ts';

const reading = rulesOf('dma', 'VFIO_USER_DMA_READ');
const rule = rulesOf('dma', 'VFIO_USER_DMA_WRITE');
const interrupts = rulesOf('dma', 'VFIO_USER_DEVICE_SET_IRQS');
const SMALL = 64;
const EIO = 5;

/** Starts the device where the server may refuse or hang up meanwhile. */
function startAnyhow(work: DeviceWork): void {
  try {
    work.start();
  } catch (error) {
    if (!(error instanceof Outcome) || error.verdict === HANGS) throw error;
  }
}

/** Answers the first DMA by `answer`. The server may drop the client for it, and then takes the next one. */
function survives(answer: DmaAnswer) {
  return (t: Trial) => {
    let first = true;
    const work = new DeviceWork(t, {
      answer: (seen, right) => {
        if (!first) return right;
        first = false;
        return answer(seen, right);
      },
    });
    startAnyhow(work);
    needsDma(work, () => !first);
    work.until(() => work.isWritten, work.driver.settleMs);
  };
}

/** Waits until the device has begun its DMA by messages. The rule `by-messages` is about a device that never does. */
function needsDma(work: DeviceWork, hasCome: () => boolean): void {
  needs(hasCome() || work.until(hasCome), 'the device does no DMA by messages');
}

/** Lets the device work by messages, to its end. */
function worked(t: Trial, proposal: object = PROPOSAL): DeviceWork {
  const work = new DeviceWork(t, { proposal });
  work.start();
  needsDma(work, () => work.memory.seen.length > 0);
  work.demandWritten('DMA by messages');
  return work;
}

/** The most bytes that one command of this kind moved or asked for. */
function mostOf({ memory }: DeviceWork, command: number): number {
  return Math.max(0, ...memory.seen.filter((seen) => seen.command === command).map(({ count }) => count));
}

/** A reply with this count and at most a byte of data. */
function withCount(count: bigint): DmaAnswer {
  return (seen, right) => {
    const payload = Buffer.from(right.subarray(16, 33));
    payload.writeBigUint64LE(count, 8);
    return replyTo(seen, payload);
  };
}

function nothingIsWritten(work: DeviceWork, what: string): void {
  startAnyhow(work);
  work.settle();
  demand(
    work.target.every((byte) => byte === FILL),
    `${what}: the device wrote to the memory`,
  );
}

export const DMA_RULES = [
  rule('by-messages', 'A device reaches memory without a descriptor by messages, and its bytes arrive.', (t) => {
    const work = new DeviceWork(t);
    work.start();
    work.demandWritten('DMA by messages');
  }),
  rule(
    'by-file',
    'A device reaches memory that came with a descriptor, and its bytes arrive.',
    (t) => {
      const work = new DeviceWork(t, { file: true });
      work.start();
      work.demandWritten('DMA by descriptor');
    },
    'VFIO_USER_DMA_MAP',
  ),
  rule('all-bytes', 'The writes of a device bring all bytes, each once.', (t) => {
    const work = worked(t);
    const came = work.memory.seen.filter(
      ({ command, address }) => command === VFIO_USER_DMA_WRITE && address < BASE + work.driver.sizeBytes,
    );
    const sum = came.reduce((total, { count }) => total + count, 0);
    demand(sum === work.driver.sizeBytes, `${sum} bytes came, of ${work.driver.sizeBytes}`);
  }),
  rule(
    'are-commands',
    'A command of the server is of type 0, and has the error bit clear.',
    (t) => {
      for (const { flags } of worked(t).memory.seen.map(({ message }) => message)) {
        demand((flags & 0x2f) === 0, `flags 0x${flags.toString(16)}`);
      }
    },
    'Header',
  ),
  rule('not-empty', 'A transfer has a byte at least.', (t) => {
    for (const { count } of worked(t).memory.seen) demand(count > 0, 'a transfer of 0 bytes');
  }),
  rule(
    'write-limit',
    "A write carries at most the client's max_data_xfer_size.",
    (t) => {
      const most = mostOf(worked(t, { ...PROPOSAL, max_data_xfer_size: SMALL }), VFIO_USER_DMA_WRITE);
      demand(most <= SMALL, `a write of ${most} bytes, for a limit of ${SMALL}`);
    },
    'Read and Write Operations',
  ),
  reading(
    'read-limit',
    "A read asks for at most the client's max_data_xfer_size.",
    (t) => {
      const work = worked(t, { ...PROPOSAL, max_data_xfer_size: SMALL });
      needs(bytesOf(work, VFIO_USER_DMA_READ) > 0, 'the device does not read');
      const most = mostOf(work, VFIO_USER_DMA_READ);
      demand(most <= SMALL, `a read of ${most} bytes, for a limit of ${SMALL}`);
    },
    'Read and Write Operations',
  ),
  rule(
    'amid-requests',
    'Commands of both sides may cross: a request before the reply to DMA is answered.',
    (t) => {
      let asked = 0;
      const work = new DeviceWork(t, {
        answer: (_seen, right) => {
          if (asked === 0) work.peer.command(VFIO_USER_DEVICE_GET_INFO, request.deviceInfo(), { id: 0x4242 });
          asked++;
          return right;
        },
      });
      // The reply may come before the one to a register write of the driver, so the driver's are not waited for here.
      startAnyhow(work);
      needsDma(work, () => asked > 0);
      work.until(() => work.isWritten);
      t.stillServes(t.successorOf({}));
    },
    'Command Concurrency',
  ),
  rule(
    'error-reply',
    'A client that refuses a transfer does not stop the server.',
    survives((seen) => errorReply(seen, EIO)),
  ),
  rule(
    'error-without-errno',
    'The errno of an error may be 0.',
    survives((seen) => errorReply(seen, 0)),
    'Header',
  ),
  rule(
    'empty-reply',
    'A reply without its struct does not stop the server.',
    survives((seen) => replyTo(seen, new Uint8Array(0))),
  ),
  rule(
    'short-reply',
    'A reply that ends in its struct does not stop the server.',
    survives((seen) => replyTo(seen, seen.message.payload.subarray(0, 8))),
  ),
  rule('less-than-asked', 'A reply with a smaller count does not stop the server.', survives(withCount(1n))),
  rule(
    'count-beyond-the-data',
    'A reply whose count is larger than its data does not stop the server.',
    survives(withCount(1n << 40n)),
  ),
  rule(
    'more-than-asked',
    'A reply with more data than asked for does not stop the server.',
    survives((seen, right) => replyTo(seen, Buffer.concat([right.subarray(16), Buffer.alloc(65536)]))),
  ),
  rule(
    'other-id',
    'A reply with another id does not stop the server.',
    survives((seen, right) => {
      const other = Buffer.from(right);
      other.writeUInt16LE((seen.message.id + 1) & 0xffff, 0);
      return Buffer.concat([other, right]);
    }),
  ),
  rule(
    'other-command',
    'A reply that names another command does not stop the server.',
    survives((seen, right) => {
      const other = Buffer.from(right);
      other.writeUInt16LE(seen.command === VFIO_USER_DMA_READ ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ, 2);
      return other;
    }),
  ),
  rule(
    'reply-twice',
    'A reply that comes twice does not stop the server.',
    survives((_seen, right) => Buffer.concat([right, right])),
  ),
  rule(
    'leaves-unanswered',
    'A client may leave with a transfer unanswered.',
    (t) => {
      let seen = false;
      const work = new DeviceWork(t, {
        answer: () => {
          if (!seen) work.peer.endSending();
          seen = true;
          return null;
        },
      });
      startAnyhow(work);
      needsDma(work, () => seen);
    },
    'Client Disconnection',
  ),
  rule(
    'read-only',
    'A region that is for reading alone is not written.',
    (t) => {
      const work = new DeviceWork(t, { flags: 1 });
      nothingIsWritten(work, 'a region for reading alone');
      demand(bytesOf(work, VFIO_USER_DMA_WRITE) === 0, 'the server sent a DMA_WRITE');
    },
    'VFIO_USER_DMA_MAP',
  ),
  rule(
    'read-only-file',
    'A region with a descriptor that is for reading alone is not written.',
    (t) => {
      nothingIsWritten(new DeviceWork(t, { file: true, flags: 1 }), 'a region for reading alone');
    },
    'VFIO_USER_DMA_MAP',
  ),
  rule(
    'after-unmap',
    'After the reply to DMA_UNMAP a device does not reach the memory.',
    (t) => {
      const work = new DeviceWork(t, { file: true });
      work.peer.ok(VFIO_USER_DMA_UNMAP, request.dmaUnmap({ addr: BASE, size: SIZE }));
      nothingIsWritten(work, 'a region that was unmapped');
    },
    'VFIO_USER_DMA_UNMAP',
  ),
  rule(
    'no-bus-master',
    'A device that may not be bus master does no DMA.',
    (t) => {
      const work = new DeviceWork(t, { isMaster: false });
      nothingIsWritten(work, 'a device without PCI_COMMAND_MASTER');
      demand(work.memory.seen.length === 0, `the server sent ${work.memory.seen.length} commands`);
    },
    'PCI Local Bus, 6.2.2',
  ),
  rule(
    'after-reset',
    'A device works again after a reset.',
    (t) => {
      const work = worked(t);
      work.peer.call(VFIO_USER_DEVICE_RESET);
      work.target.fill(FILL);
      work.start();
      // A reset may take the eventfd away, but not the memory.
      work.demandWritten('DMA after a reset');
    },
    'VFIO_USER_DEVICE_RESET',
  ),
  rule(
    'next-client',
    'A device works for the next client as for the first one.',
    (t) => {
      worked(t);
      t.closePeers();
      t.successorOf({});
      t.closePeers();
      worked(t);
    },
    'Client Disconnection',
  ),
  interrupts('interrupt', 'A device that is done signals the eventfd of its interrupt.', (t) => {
    const work = worked(t);
    const isSignalled = work.until(() => pollOne(work.interrupt.fd, POLLIN, 0) !== 0);
    demand(isSignalled, 'the eventfd is not signalled');
  }),
  interrupts('interrupt-disabled', 'An interrupt that is disabled does not signal its eventfd.', (t) => {
    const work = new DeviceWork(t);
    const disable = request.setIrqs({ flags: request.TRIGGER, index: work.driver.irqIndex, count: 0 });
    work.peer.ok(VFIO_USER_DEVICE_SET_IRQS, disable);
    startAnyhow(work);
    work.settle();
    demand(pollOne(work.interrupt.fd, POLLIN, 0) === 0, 'the eventfd is signalled');
  }),
];
