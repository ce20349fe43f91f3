/**
 * Eventfds of a peer, signalled by the kernel. write(2) waits when the peer has filled the counter up. O_NONBLOCK does
 * not help, since the peer can clear it at any moment. The end of an asynchronous operation also signals an eventfd
 * (IOCB_FLAG_RESFD in linux/aio_abi.h), and never waits. The operation here is a poll that ends at once.
 */
import {
  __NR_io_destroy,
  __NR_io_getevents,
  __NR_io_setup,
  __NR_io_submit,
  IOCB_CMD_POLL,
  IOCB_FLAG_RESFD,
  io_event,
  iocb,
} from '../abi/aio.ts';
import { ERRNO } from '../abi/errno.ts';
import { POLLIN, POLLOUT } from '../abi/poll.ts';
import { Pinned, sys } from './ffi.ts';

/** The number of operations that end before their ends are looked at. */
const EVENTS = 64;

interface Context {
  readonly id: number;
  readonly iocb: Pinned;
  readonly list: Pinned;
  readonly events: Pinned;
}

/** The context of this thread; null where the machine lacks asynchronous I/O, or has used all of it. */
let context: Context | null | undefined;

/** Adds one to the eventfd without ever waiting. Returns false and does nothing where it cannot promise that. */
export function signalByKernel(fd: number): boolean {
  // Tried once: null stays null.
  if (context === undefined) context = open();
  if (context === null) return false;
  const { id, iocb: request, list, events } = context;
  // A counter is always readable, writable, or both.
  iocb.fields.aio_fildes.set(request.view, 0, fd);
  iocb.fields.aio_resfd.set(request.view, 0, fd);
  let result = sys.syscall(__NR_io_submit, id, 1, list.address, 0, 0, 0);
  if (result === -ERRNO.EAGAIN) {
    sys.syscall(__NR_io_getevents, id, 0, EVENTS, events.address, 0, 0);
    result = sys.syscall(__NR_io_submit, id, 1, list.address, 0, 0, 0);
  }
  return result === 1;
}

function open(): Context | null {
  const list = new Pinned(8);
  if (sys.syscall(__NR_io_setup, EVENTS, list.address, 0, 0, 0, 0) < 0) return null;
  const id = Number(list.view.getBigUint64(0, true));
  process.once('exit', () => sys.syscall(__NR_io_destroy, id, 0, 0, 0, 0, 0));
  const request = new Pinned(iocb.sizeof);
  const operation = { aio_lio_opcode: IOCB_CMD_POLL, aio_buf: POLLIN | POLLOUT, aio_flags: IOCB_FLAG_RESFD };
  iocb.write(request.view, 0, operation);
  list.view.setBigUint64(0, BigInt(request.address), true);
  return { id, iocb: request, list, events: new Pinned(EVENTS * io_event.sizeof) };
}
