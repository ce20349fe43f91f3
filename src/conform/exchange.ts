/** The record of one trial: each message with its bytes, as a maintainer needs it to see the fault again. */
import { errnoName } from '../abi/errno.ts';
import {
  VFIO_USER_COMMAND_NAMES,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
} from '../abi/vfio-user.ts';

/** Bytes of a message that a record keeps. The rest is only counted. */
const SHOWN_BYTES = 256;

export type Direction = 'sent' | 'received' | 'event';

export interface ExchangeEntry {
  direction: Direction;
  /** The number of the connection in this trial, from 1. */
  connection: number;
  /** The command's name, or the event. */
  what: string;
  /** The first bytes in hexadecimal, and the number of all. */
  bytes: string;
  length: number;
  /** Descriptors that came along. */
  fds: number;
}

export class TrialLog {
  readonly entries: ExchangeEntry[] = [];

  add(direction: Direction, connection: number, what: string, bytes: Uint8Array, fds: number): void {
    const shown = Buffer.from(bytes.subarray(0, SHOWN_BYTES)).toString('hex');
    this.entries.push({ direction, connection, what, bytes: shown, length: bytes.length, fds });
  }

  event(connection: number, what: string): void {
    this.entries.push({ direction: 'event', connection, what, bytes: '', length: 0, fds: 0 });
  }
}

export function commandName(command: number): string {
  return VFIO_USER_COMMAND_NAMES.get(command) ?? `command ${command}`;
}

/** Reads the kit's own header layout, so that a fault of Barter's codec cannot hide itself. */
export function nameOf(bytes: Uint8Array): string {
  if (bytes.length < VFIO_USER_HEADER_SIZE) return `${bytes.length} bytes`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const flags = view.getUint32(8, true);
  const kind = (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY ? ' reply' : '';
  const failed = (flags & VFIO_USER_F_ERROR) !== 0 ? `, ${errnoName(view.getUint32(12, true))}` : '';
  return `${commandName(view.getUint16(2, true))}${kind}${failed}`;
}

/** An entry as a line of text: `> DEVICE_GET_INFO  02000400...` */
export function entryText({ direction, connection, what, bytes, length, fds }: ExchangeEntry): string {
  const arrow = { sent: '>', received: '<', event: '.' }[direction];
  const rest = length > SHOWN_BYTES ? `... (${length} bytes)` : '';
  const along = fds > 0 ? ` +${fds} fd` : '';
  return `${connection}${arrow} ${what}${along}${bytes === '' ? '' : `  ${bytes}${rest}`}`;
}
