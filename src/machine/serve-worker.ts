/** The thread that serves a machine: it blocks in system calls, so that the main thread need not. */
import { join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { EPOLLIN } from '../abi/poll.ts';
import { memfdMemory } from '../linux/bar-memory.ts';
import { closingThread } from '../linux/closing-thread.ts';
import { setCloser } from '../linux/foreign-fd.ts';
import type { Memory } from '../pci/memory.ts';
import { buildVfioDevices } from '../vfio/driver.ts';
import { PROFILES, type ProfileName } from '../vfio/profile.ts';
import type { TraceEvent } from '../vfio-user/server/message-trace.ts';
import { VfioUserServer } from '../vfio-user/server/server.ts';
import { buildMachine } from './build.ts';
import type { MachineDescription } from './schema.ts';

export interface ServeRequest {
  description: MachineDescription;
  socketDir: string;
  profile: ProfileName;
  importerTimeoutMs: number | undefined;
  /** Report everything that passes. */
  trace: boolean;
  /** Descriptors of the main thread: the server stops when one of them can be read. */
  stopFds: readonly number[];
}

export type ServeReport =
  | { kind: 'ready'; devices: { name: string; socket: string }[] }
  | { kind: 'log'; line: string }
  | { kind: 'trace'; event: TraceEvent }
  | { kind: 'failed'; message: string }
  | { kind: 'stopped'; openFds: number; buffers: number };

const report = (message: ServeReport) => parentPort!.postMessage(message);

function serve({ description, socketDir, profile, importerTimeoutMs, trace, stopFds }: ServeRequest): void {
  setCloser(closingThread);
  const memories: Memory[] = [];
  const machine = buildMachine(description, (label, sizeBytes) => {
    const memory = memfdMemory(label, sizeBytes);
    memories.push(memory);
    return memory;
  });
  const onTrace = trace ? (event: TraceEvent) => report({ kind: 'trace', event }) : null;
  const server = new VfioUserServer((line) => report({ kind: 'log', line }), importerTimeoutMs, onTrace);
  const devices: { name: string; socket: string }[] = [];
  try {
    for (const [name, vdev] of buildVfioDevices(machine.functions, PROFILES[profile])) {
      const socket = join(socketDir, `${name}.sock`);
      server.serve(vdev, socket);
      devices.push({ name, socket });
    }
  } catch (error) {
    server.stop();
    throw error;
  }
  for (const fd of stopFds) server.loop.add(fd, EPOLLIN, () => server.stop());
  report({ kind: 'ready', devices });
  server.run();
  for (const memory of memories) memory.close();
  report({ kind: 'stopped', ...server.census() });
}

// The one message that it is sent: it may have been started before anybody knew what to serve; null is nothing.
parentPort!.once('message', (request: ServeRequest | null) => {
  if (request === null) return;
  try {
    serve(request);
  } catch (error) {
    report({ kind: 'failed', message: (error as Error).message });
  }
});
