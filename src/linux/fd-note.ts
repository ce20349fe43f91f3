/** What is written down of a descriptor on its way between processes: enough to make another of its kind. */
import { fstatSync } from 'node:fs';
import { isEventfd, isLocalFile } from './foreign-fd.ts';
import { isUnixPacketSocket, isUnixStreamSocket } from './socket.ts';

/** file: a memfd or another file of a local file system. socket: a UNIX socket, such as a lent buffer. */
export type FdKind = 'other' | 'file' | 'eventfd' | 'socket';

/** A descriptor of a message. */
export interface FdNote {
  /** The kind of file. */
  kind: FdKind;
  /** Of a file; 0 for the others. */
  sizeBytes: number;
}

/** Asks no other process: fstat(2) of a file of FUSE could wait for its server. */
export function noteOf(fd: number): FdNote {
  try {
    if (isEventfd(fd)) return { kind: 'eventfd', sizeBytes: 0 };
    if (isUnixPacketSocket(fd) || isUnixStreamSocket(fd)) return { kind: 'socket', sizeBytes: 0 };
    if (isLocalFile(fd) && fstatSync(fd).isFile()) return { kind: 'file', sizeBytes: fstatSync(fd).size };
  } catch {
    // The process may have no descriptor left to look at the file. A note must not change the conversation.
  }
  return { kind: 'other', sizeBytes: 0 };
}
