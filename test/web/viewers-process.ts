/**
 * A process that looks at a page with many streams, for tests of what viewers cost: `read` of them read all they get,
 * `slow` read a little now and then, and `never` read nothing; `files` ask for a large file and never read it. It
 * sends its parent the number of updates that every reading stream has had.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface ViewerCounts {
  readonly read: number;
  readonly slow: number;
  readonly never: number;
  readonly files: number;
}

const [url, text] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(url);
const counts = JSON.parse(text) as ViewerCounts;
const sockets: Socket[] = [];
const updates: number[] = [];

async function open(path: string): Promise<Socket> {
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(`GET ${pathname}${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
  sockets.push(socket);
  return socket;
}

for (let i = 0; i < counts.never; i++) (await open('events')).pause();
for (let i = 0; i < counts.files; i++) (await open('vendor/uplot.js')).pause();
for (let i = 0; i < counts.slow; i++) {
  const socket = (await open('events')).pause();
  setInterval(() => socket.read(64), 200);
}
for (let i = 0; i < counts.read; i++) {
  const at = updates.push(0) - 1;
  const socket = await open('events');
  socket.setEncoding('latin1').on('data', (part: string) => {
    updates[at] += part.split('\nevent: update\n').length - 1 + (part.startsWith('event: update\n') ? 1 : 0);
  });
}
setInterval(() => process.send!(Math.min(...updates)), 100);
process.on('disconnect', () => process.exit());
