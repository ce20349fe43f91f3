/** Helpers of request handlers: read a request's struct, and make its reply. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { beyondLimit, limitHit } from '../../vfio/limit-hits.ts';
import { type Frame, LIMITS } from '../wire/frame.ts';

const FIRST_REPLY_BYTES = 8192;

/** The reply under construction: bytes after the header's place, and descriptors that travel with it. */
export class Reply {
  message = new Pinned(FIRST_REPLY_BYTES);
  payloadBytes = 0;
  fds: number[] = [];
  /** The part of `fds` that the reply must close. */
  private owned: OwnedFd[] = [];

  begin(): void {
    this.payloadBytes = 0;
    if (this.fds.length > 0) this.fds = [];
  }

  /** Returns room for `length` more bytes. They are not cleared. */
  reserve(length: number): Uint8Array {
    const at = VFIO_USER_HEADER_SIZE + this.payloadBytes;
    this.makeRoom(length);
    this.payloadBytes += length;
    return this.message.bytes.subarray(at, at + length);
  }

  private makeRoom(length: number): void {
    const end = VFIO_USER_HEADER_SIZE + this.payloadBytes + length;
    if (end <= this.message.bytes.length) return;
    const larger = new Pinned(end);
    larger.bytes.set(this.message.bytes.subarray(0, end - length));
    this.message = larger;
  }

  /** Begins a reply of `offset` bytes and `length` more, and returns the place of the latter. They are not cleared. */
  window(offset: number, length: number): Uint8Array {
    this.begin();
    this.makeRoom(offset + length);
    this.payloadBytes = offset + length;
    return this.message.window.at(VFIO_USER_HEADER_SIZE + offset, length);
  }

  append(bytes: Uint8Array): void {
    this.reserve(bytes.length).set(bytes);
  }

  /** Sends a descriptor along, and closes it when the reply is out. */
  attach(fd: OwnedFd): void {
    this.fds.push(fd.fd);
    this.owned.push(fd);
  }

  takeFds(): OwnedFd[] {
    this.fds = [];
    return this.owned.splice(0);
  }
}

/** EINVAL for more bytes in one message than both sides take (VERSION). */
export function checkTransfer(
  what: string,
  count: number,
  { capabilities }: { capabilities: { maxDataXferBytes: number } },
): void {
  const { maxDataXferBytes } = capabilities;
  if (count > maxDataXferBytes) {
    throw beyondLimit('maxDataXferBytes', 'EINVAL', `${what} of ${count} bytes; ${maxDataXferBytes} is the most`);
  }
}

/** Returns a view of a request's payload. EINVAL where it is shorter than `struct`. */
export function decode(struct: { name: string; sizeof: number }, frame: Frame): DataView {
  if (frame.payload.length < struct.sizeof) {
    throw new Errno('EINVAL', `command ${frame.command}: ${frame.payload.length} bytes, wants ${struct.name}`);
  }
  return viewOf(frame.payload);
}

/**
 * As `decode`, for a struct that begins with argsz, the most bytes of the reply's payload. EINVAL where argsz is too
 * small for the struct, or has room for more data than a message may carry. Every command with an argsz uses this.
 */
export function decodeSized(struct: { name: string; sizeof: number }, frame: Frame): DataView {
  const view = decode(struct, frame);
  const argsz = view.getUint32(0, true);
  const most = struct.sizeof + LIMITS.maxDataXferBytes;
  if (argsz < struct.sizeof || argsz > most) {
    if (argsz > most) limitHit('maxDataXferBytes');
    throw new Errno(
      'EINVAL',
      `command ${frame.command}: argsz ${argsz}; ${struct.sizeof} to ${most} for ${struct.name}`,
    );
  }
  return view;
}
