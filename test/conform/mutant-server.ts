/** Barter's server with one defect: `mutant-server.ts DEFECT SOCKET`. The kit must find each (mutants.test.ts). */
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_REGION_READ,
  VFIO_USER_VERSION,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { ClientConnection } from '../../src/vfio-user/server/client-connection.ts';
import type { Frame } from '../../src/vfio-user/wire/frame.ts';
import { InProcessServer } from '../vfio-user/in-process.ts';

type Reply = { message: { bytes: Uint8Array; view: DataView }; payloadBytes: number; begin(): void };
type Patched = {
  reply: Reply;
  session: object | null;
  sendReply(frame: Frame, error: number): void;
  onFrame(frame: Frame): boolean;
  onClose(why: Error | null): void;
};
const original = ClientConnection.prototype as unknown as Patched;
const { sendReply, onFrame, onClose } = original;
const HEADER = 16;

/** Changes a reply before it goes out. */
function replies(change: (self: Patched, frame: Frame, error: number) => number | null): void {
  original.sendReply = function (frame, error) {
    const changed = change(this, frame, error);
    if (changed !== null) sendReply.call(this, frame, changed);
  };
}

const DEFECTS: Record<string, () => void> = {
  'other-id': () =>
    replies((_self, frame, error) => {
      if (frame.command !== VFIO_USER_VERSION) (frame as { id: number }).id = (frame.id + 1) & 0xffff;
      return error;
    }),
  'argsz-of-info': () =>
    replies((self, { command }, error) => {
      if (command === VFIO_USER_DEVICE_GET_INFO && error === 0) self.reply.message.view.setUint32(HEADER, 8, true);
      return error;
    }),
  'short-reads': () =>
    replies((self, { command }, error) => {
      if (command === VFIO_USER_REGION_READ) self.reply.payloadBytes = 0;
      return error;
    }),
  'huge-regions': () =>
    replies((self, { command }, error) => {
      if (command === VFIO_USER_DEVICE_GET_REGION_INFO)
        self.reply.message.view.setBigUint64(HEADER + 16, 1n << 63n, true);
      return error;
    }),
  'later-minor': () =>
    replies((self, { command }, error) => {
      if (command === VFIO_USER_VERSION) self.reply.message.view.setUint16(HEADER + 2, 99, true);
      return error;
    }),
  'accepts-overlaps': () => replies((_self, { command }, error) => (command === VFIO_USER_DMA_MAP ? 0 : error)),
  'silent-reset': () => replies((_self, { command }, error) => (command === VFIO_USER_DEVICE_RESET ? null : error)),
  'keeps-descriptors': () =>
    replies((_self, { command }, error) => {
      if (command === VFIO_USER_DEVICE_SET_IRQS) createEventfd('defect');
      return error;
    }),
  'answers-no-reply': () => {
    original.onFrame = function (frame) {
      (frame as { noReply: boolean }).noReply = false;
      return onFrame.call(this, frame);
    };
  },
  'dies-of-silence': () => {
    original.onClose = function (why) {
      if (this.session === null) process.kill(process.pid, 'SIGKILL');
      onClose.call(this, why);
    };
  },
};

const [defect, socket] = process.argv.slice(2);
if (defect !== 'none') DEFECTS[defect]();
const inProcess = new InProcessServer();
const [lender] = inProcess.devices.values();
inProcess.server.serve(lender, socket);
console.log('ready');
inProcess.server.run();
