// Preloaded into a server to see that a soak finds leaks: leaks a little of everything, again and again.
import { openSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { isMainThread, Worker } from 'node:worker_threads';
import koffi from 'koffi';

const PERIOD_MS = 500;
const KIB_64 = 65_536;
const MIB_4 = 2 ** 22;
const PROT_READ = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;

if (isMainThread && process.env.BARTER_SOAK_LEAK !== undefined && process.argv.includes('serve')) {
  const kinds = process.env.BARTER_SOAK_LEAK.split(',');
  const kept = [];
  const address = `\0soak-leak-${process.pid}`;
  createServer((socket) => kept.push(socket.unref()))
    .listen(address)
    .unref();
  const libc = koffi.load('libc.so.6');
  const mmap = libc.func('void *mmap(size_t, size_t, int, int, int, long)');
  const LEAKS = {
    fds: () => openSync('/dev/null', 'r'),
    sessions: () => connect(address).unref(),
    threads: () => new Worker('setInterval(() => {}, 1000)', { eval: true }).unref(),
    files: () => mmap(0, KIB_64, PROT_READ, 2, openSync('/proc/self/exe', 'r'), 0),
    // Neighbours of other protection stay apart.
    mappings: () => {
      for (let i = 0; i < 40; i++) kept.push(mmap(0, KIB_64, i % 2, MAP_PRIVATE_ANONYMOUS, -1, 0));
    },
    rssMiB: () => Buffer.alloc(MIB_4, 1),
  };
  setInterval(() => {
    for (const kind of kinds) kept.push(LEAKS[kind]());
  }, PERIOD_MS).unref();
}
