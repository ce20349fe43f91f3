/** Descriptors of every kind except those that a server expects. */
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, O_PATH } from '../../src/abi/fcntl.ts';
import { MFD_ALLOW_SEALING } from '../../src/abi/mman.ts';
import { SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET } from '../../src/abi/socket.ts';
import { closeAll, OwnedFd } from '../../src/linux/fd.ts';
import { check, Pinned, pinnedBytes, sys } from '../../src/linux/ffi.ts';
import { addSeals } from '../../src/linux/memfd.ts';
import { Message } from '../../src/linux/message.ts';
import { listenUnix, socketPair } from '../../src/linux/socket.ts';

const AF_INET = 2;
const SO_LINGER = 13;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const LINGER_SECONDS = 60;

const own = (fd: number, what: string) =>
  new OwnedFd(
    check(fd, () => what),
    what,
  );

function loopbackAddress(port: number): Buffer {
  const address = pinnedBytes(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.writeUInt32BE(0x7f000001, 4);
  return address;
}

function setInt(socket: OwnedFd, option: number, value: number): void {
  const bytes = pinnedBytes(4);
  bytes.writeInt32LE(value);
  check(sys.setsockopt(socket.fd, SOL_SOCKET, option, bytes, 4), () => `setsockopt ${option}`);
}

/** TCP connections whose close waits for a minute, because their data was never received. */
export class Lingering {
  private readonly listener = own(sys.socket(AF_INET, SOCK_STREAM, 0), 'listener');
  private readonly port: number;

  constructor() {
    // A fixed port is simpler to find. A listen without bind takes any port, which only /proc/net/tcp tells.
    this.port = 20000 + (process.pid % 20000);
    check(sys.bind(this.listener.fd, loopbackAddress(this.port), 16), () => `bind to port ${this.port}`);
    // Small, so that many of them cost little.
    setInt(this.listener, SO_RCVBUF, 4096);
    check(sys.listen(this.listener.fd, 1024), () => 'listen');
  }

  make(): OwnedFd {
    const socket = own(sys.socket(AF_INET, SOCK_STREAM, 0), 'lingering socket');
    setInt(socket, SO_SNDBUF, 4096);
    check(sys.connect(socket.fd, loopbackAddress(this.port), 16), () => 'connect');
    const linger = pinnedBytes(8);
    linger.writeInt32LE(1, 0);
    linger.writeInt32LE(LINGER_SECONDS, 4);
    check(sys.setsockopt(socket.fd, SOL_SOCKET, SO_LINGER, linger, 8), () => 'SO_LINGER');
    const bytes = new Pinned(65536);
    while (sys.send(socket.fd, bytes.address, bytes.bytes.length, 0x40) > 0) {}
    return socket;
  }

  /** Resets the connections, so that nothing waits any more. */
  close(): void {
    this.listener.close();
  }
}

/** One descriptor of each kind. `make` returns a fresh one, which the caller closes. */
export function oddFds(folder: string, lingering: Lingering): Map<string, () => OwnedFd> {
  const open = (path: string, flags: number) => () => new OwnedFd(openSync(path, flags), path);
  const memfd = (seals: number) => () => {
    const fd = own(sys.memfd_create('test odd', MFD_ALLOW_SEALING), 'memfd');
    check(sys.ftruncate(fd.fd, 65536), () => 'ftruncate');
    addSeals(fd.fd, seals);
    return fd;
  };
  let made = 0;
  return new Map([
    ['a directory', open(folder, 0)],
    ['/dev/null', open('/dev/null', 2)],
    ['/dev/zero', open('/dev/zero', 2)],
    ['/dev/full', open('/dev/full', 2)],
    ['a path', open(folder, O_PATH)],
    ['memory of a process', open('/proc/self/mem', 2)],
    ['a file of sysfs', open('/sys/kernel/mm/transparent_hugepage/enabled', 0)],
    ['an epoll', () => own(sys.epoll_create1(0), 'epoll')],
    ['a listening socket', () => listenUnix(join(folder, `odd-${made++}`))],
    ['a socket with an odd descriptor in its queue', () => loaded(lingering.make())],
    ['a memfd that may not be written', memfd(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE)],
    ['a socket that lingers', () => lingering.make()],
  ]);
}

/** A socket whose queue has the only other reference to `fd`. */
function loaded(fd: OwnedFd): OwnedFd {
  const [kept, sender] = socketPair('loaded socket', SOCK_SEQPACKET);
  const byte = new Pinned(1);
  const message = new Message(1, 1);
  message.setIov(0, byte.address, 1);
  check(message.sendmsg(sender.fd, 0, [fd.fd]), () => 'sendmsg');
  closeAll([fd, sender]);
  return kept;
}
