import { chmodSync } from 'node:fs';
import { ERRNO, Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import {
  AF_UNIX,
  SHUT_RDWR,
  SO_DOMAIN,
  SO_PEERCRED,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  SUN_PATH_MAX,
  sockaddr_un,
  ucred,
} from '../abi/socket.ts';
import { OwnedFd } from './fd.ts';
import { check, pinnedBytes, retry, sys } from './ffi.ts';

/** UNIX sockets (unix(7)), close-on-exec. Descriptors travel by Message (message.ts). */

/** Returns a struct sockaddr_un and its length. EINVAL for a path of more than 107 bytes. */
function unixAddress(path: string): { bytes: Buffer; length: number } {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length >= SUN_PATH_MAX) {
    throw new Errno('EINVAL', `socket path of ${name.length} bytes (1 to ${SUN_PATH_MAX - 1}): ${path}`);
  }
  const bytes = pinnedBytes(sockaddr_un.sizeof);
  sockaddr_un.write(viewOf(bytes), 0, { sun_family: AF_UNIX, sun_path: name });
  return { bytes, length: 2 + name.length + 1 };
}

function newSocket(flags: number, what: string): OwnedFd {
  return new OwnedFd(
    check(sys.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), () => 'socket(AF_UNIX)'),
    what,
  );
}

/**
 * A listening socket at `path`, to which only its owner may connect (mode 0600). EADDRINUSE when something is at that
 * path already; the caller decides whether to remove it. The caller also unlinks the path when it has closed the
 * socket.
 */
export function listenUnix(path: string, backlog = 16): OwnedFd {
  const { bytes, length } = unixAddress(path);
  const socket = newSocket(0, `listening socket ${path}`);
  try {
    check(sys.bind(socket.fd, bytes, length), () => `bind(${path})`);
    // Before listen nobody can connect, so the mode is never looser than it should be.
    chmodSync(path, 0o600);
    check(sys.listen(socket.fd, backlog), () => `listen(${path})`);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/**
 * Waits for a connection, unless the listener is non-blocking. `nonBlocking` makes the connection itself non-blocking.
 */
export function acceptUnix(listener: OwnedFd, what = 'connection', nonBlocking = false): OwnedFd {
  const fd = tryAccept(listener, nonBlocking);
  return new OwnedFd(
    check(fd, () => `accept4 on ${listener.what}`),
    what,
  );
}

/** As acceptUnix, but returns the descriptor or the negative errno (-EAGAIN, -EMFILE, ...). */
export function tryAccept(listener: OwnedFd, nonBlocking = false): number {
  const flags = SOCK_CLOEXEC | (nonBlocking ? SOCK_NONBLOCK : 0);
  return retry(() => sys.accept4(listener.fd, 0, 0, flags));
}

/**
 * Connects. Blocks while the listener's backlog is full, at most `timeoutMs` (0: without end), then ETIMEDOUT. ENOENT
 * or ECONNREFUSED when nobody listens at `path`.
 */
export function connectUnix(path: string, timeoutMs = 0): OwnedFd {
  const { bytes, length } = unixAddress(path);
  const socket = newSocket(0, `connection to ${path}`);
  try {
    const end = performance.now() + timeoutMs;
    if (timeoutMs > 0) setSocketTimeout(socket, timeoutMs);
    const result = retry(() => {
      const connected = sys.connect(socket.fd, bytes, length);
      // The socket's timeout starts anew with each call.
      if (connected === -ERRNO.EINTR && timeoutMs > 0) setSocketTimeout(socket, Math.max(1, end - performance.now()));
      return connected;
    });
    if (result === -ERRNO.EAGAIN) {
      throw new Errno('ETIMEDOUT', `connect(${path}): the server does not accept within ${timeoutMs} ms`);
    }
    check(result, () => `connect(${path})`);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** As connectUnix, but does not wait: null while the listener's backlog is full. The socket is non-blocking. */
export function tryConnectUnix(path: string): OwnedFd | null {
  const { bytes, length } = unixAddress(path);
  const socket = newSocket(SOCK_NONBLOCK, `connection to ${path}`);
  const result = retry(() => sys.connect(socket.fd, bytes, length));
  if (result === 0) return socket;
  socket.close();
  if (result === -ERRNO.EAGAIN) return null;
  throw Errno.fromCode(-result, `connect(${path})`, 'connect');
}

/** Two connected sockets: streams, or packet sockets (SOCK_SEQPACKET). */
export function socketPair(what = 'socket pair', type = SOCK_STREAM): [OwnedFd, OwnedFd] {
  const pair = pinnedBytes(8);
  check(sys.socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), () => 'socketpair');
  return [new OwnedFd(pair.readInt32LE(0), what), new OwnedFd(pair.readInt32LE(4), what)];
}

/** The process on the other side at the time of connect or socketpair. */
export function peerCredentials(socket: OwnedFd): { pid: number; uid: number; gid: number } {
  const value = pinnedBytes(ucred.sizeof);
  const length = pinnedBytes(4);
  length.writeUInt32LE(ucred.sizeof);
  check(sys.getsockopt(socket.fd, SOL_SOCKET, SO_PEERCRED, value, length), () => `SO_PEERCRED of ${socket.what}`);
  return ucred.read(viewOf(value));
}

/** Whether it is a UNIX packet socket (SOCK_SEQPACKET); false for any other kind of descriptor. */
export function isUnixPacketSocket(fd: number): boolean {
  return option(fd, SO_DOMAIN) === AF_UNIX && option(fd, SO_TYPE) === SOCK_SEQPACKET;
}

/** Whether it is a UNIX stream socket; false for any other kind of descriptor. */
export function isUnixStreamSocket(fd: number): boolean {
  return option(fd, SO_DOMAIN) === AF_UNIX && option(fd, SO_TYPE) === SOCK_STREAM;
}

/** Returns an int option; negative where the descriptor lacks it, or is not a socket. */
function option(fd: number, name: number): number {
  const value = pinnedBytes(4);
  const length = pinnedBytes(4);
  length.writeUInt32LE(4);
  const result = sys.getsockopt(fd, SOL_SOCKET, name, value, length);
  return result < 0 ? result : value.readInt32LE();
}

/** Ends the connection both ways. Every call blocked in it returns, on either side and in any thread. */
export function shutdownSocket(socket: OwnedFd, how = SHUT_RDWR): void {
  const result = sys.shutdown(socket.fd, how);
  if (result !== -ERRNO.ENOTCONN) check(result, () => `shutdown of ${socket.what}`);
}

/** Sets how long a blocking receive and send may wait before -EAGAIN; 0 is without limit. */
export function setSocketTimeout(socket: OwnedFd, timeoutMs: number): void {
  const timeval = pinnedBytes(16);
  timeval.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0);
  timeval.writeBigInt64LE(BigInt(Math.round((timeoutMs % 1000) * 1000)), 8);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
    check(sys.setsockopt(socket.fd, SOL_SOCKET, option, timeval, 16), () => `setsockopt of ${socket.what}`);
  }
}
