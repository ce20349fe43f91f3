/** The thread that serves a machine. It blocks in system calls, and leaves the main thread free. */

import { join } from 'node:path';
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { Errno, type ErrnoName } from '../abi/errno.ts';
import { EPOLLIN } from '../abi/poll.ts';
import type { Picture, Screen } from '../device/screen.ts';
import { memfdMemory } from '../linux/bar-memory.ts';
import { closingThread } from '../linux/closing-thread.ts';
import { readEventfd } from '../linux/eventfd.ts';
import { setCloser } from '../linux/foreign-fd.ts';
import type { Memory } from '../pci/memory.ts';
import type { Task } from '../task/op.ts';
import { runner } from '../task/runner.ts';
import { buildVfioDevices } from '../vfio/driver.ts';
import type { Profile } from '../vfio/profile.ts';
import { Control, type ControlCommand } from '../vfio-user/monitor/control.ts';
import { Monitor, type MonitorMemory } from '../vfio-user/monitor/monitor.ts';
import { snapshot } from '../vfio-user/monitor/snapshot.ts';
import type { ServerState } from '../vfio-user/monitor/state.ts';
import { VfioUserServer } from '../vfio-user/server/server.ts';
import type { Log, LogAbout } from '../vfio-user/wire/log.ts';
import type { TappedMessage, TapSink } from '../vfio-user/wire/tap.ts';
import { buildMachine } from './build.ts';
import { inspectMachine, type MachineView } from './inspect.ts';
import type { MachineDescription } from './schema.ts';
import { screenPath } from './screen/protocol.ts';
import { ScreenServer } from './screen/server.ts';
import { TapMeter } from './tap-meter.ts';

export interface ServeRequest {
  description: MachineDescription;
  socketDir: string;
  profile: Profile;
  importerTimeoutMs: number | undefined;
  /** Null where nobody listens to messages; else the memory of a TapMeter. */
  tapped: Int32Array<SharedArrayBuffer> | null;
  /** Null while nobody watches. */
  watch: WatchRequest | null;
  /** Descriptors of the main thread. The server stops when one of them is readable. */
  stopFds: readonly number[];
}

/** A device and its sockets. */
export interface DeviceSockets {
  /** The name in the machine. */
  name: string;
  /** The path of its socket. */
  socket: string;
  /** Of a device with a screen (screen/protocol.ts). */
  screen?: string;
}

/** For a watcher in another thread (watcher.ts). */
export interface WatchRequest {
  memory: MonitorMemory;
  /** Brings questions, takes answers. This thread blocks in epoll_wait, so `wakeFd`, an eventfd, announces them. */
  port: MessagePort;
  wakeFd: number;
  /** Whether commands are served too. */
  control: boolean;
}

/** Work for the serving thread. */
export type WatchJob = { kind: 'control'; command: ControlCommand } | { kind: 'screen'; device: string };
export type WatchQuestion = { kind: 'state' } | { kind: 'job'; id: number; job: WatchJob };
export type WatchAnswer =
  | { kind: 'machine'; view: MachineView }
  | { kind: 'state'; state: ServerState }
  /** `result` is the picture of a screen; a command has none. */
  | { kind: 'done'; id: number; result: unknown }
  | { kind: 'failed'; id: number; reason: string };

export type ServeReport =
  | { kind: 'ready'; devices: DeviceSockets[] }
  | { kind: 'log'; line: string; about: LogAbout }
  | { kind: 'tap'; message: TappedMessage; lost: number }
  | { kind: 'failed'; code: ErrnoName; message: string }
  | { kind: 'stopped'; openFds: number; buffers: number };

const report = (message: ServeReport) => parentPort!.postMessage(message);

/** Reports messages while the main thread keeps up. */
function listener(memory: Int32Array<SharedArrayBuffer>): TapSink {
  const meter = new TapMeter(memory);
  let lost = 0;
  return (message) => {
    if (!meter.give(message)) {
      lost += 1;
      return;
    }
    report({ kind: 'tap', message, lost });
    lost = 0;
  };
}

/** Answers a watcher's questions. Returns a function to call when the server has stopped. */
function answer(
  server: VfioUserServer,
  screens: ReadonlyMap<string, Screen>,
  { port, wakeFd, control: mayControl }: WatchRequest,
): () => void {
  const control = mayControl ? new Control(server) : null;
  const send = (message: WatchAnswer, moved: ArrayBuffer[] = []) => port.postMessage(message, moved);
  const onQuestion = (question: WatchQuestion): void => {
    if (question.kind === 'state') {
      send({ kind: 'state', state: snapshot(server, control?.state ?? null) });
      return;
    }
    const { id, job } = question;
    if (job.kind === 'screen') {
      // The pixels move to the main thread: a copy would hold up the clients.
      const sendPicture = (result: Picture) =>
        send({ kind: 'done', id, result }, [result.pixels.buffer as ArrayBuffer]);
      runner.start('screen for the page', answered(id, screens.get(job.device)!.picture(0), send, sendPicture));
    } else if (control !== null) {
      const sendDone = () => send({ kind: 'done', id, result: undefined });
      runner.start('command of the page', answered(id, control.run(job.command), send, sendDone));
    }
  };
  server.loop.add(wakeFd, EPOLLIN, () => {
    readEventfd(wakeFd);
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
      onQuestion(next.message as WatchQuestion);
    }
  });
  return () => {
    if (control !== null) runner.start('end of the page', control.end());
  };
}

/** Does a job. Hands on its result, or sends the reason of its failure. */
function* answered<R>(
  id: number,
  work: Task<R>,
  send: (message: WatchAnswer) => void,
  sendResult: (result: R) => void,
): Task {
  try {
    sendResult(yield* work);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    send({ kind: 'failed', id, reason: error.message });
  }
}

function serve({ description, socketDir, profile, importerTimeoutMs, tapped, watch, stopFds }: ServeRequest): void {
  setCloser(closingThread);
  const memories: Memory[] = [];
  const machine = buildMachine(description, (label, sizeBytes) => {
    const memory = memfdMemory(label, sizeBytes);
    memories.push(memory);
    return memory;
  });
  const log: Log = (line, about) => report({ kind: 'log', line, about });
  const server = new VfioUserServer(log, importerTimeoutMs, {
    tap: tapped === null ? null : listener(tapped),
    monitor: watch === null ? null : new Monitor(watch.memory),
  });
  watch?.port.postMessage({ kind: 'machine', view: inspectMachine(machine) } satisfies WatchAnswer);
  const endWatch = watch === null ? () => {} : answer(server, machine.screens, watch);
  const devices: DeviceSockets[] = [];
  const screens: ScreenServer[] = [];
  const stop = (): void => {
    endWatch();
    for (const screen of screens) screen.close();
    server.stop();
  };
  try {
    for (const [name, vdev] of buildVfioDevices(machine.functions, profile)) {
      const socket = join(socketDir, `${name}.sock`);
      server.serve(vdev, socket);
      const screen = machine.screens.get(name);
      if (screen !== undefined) screens.push(new ScreenServer(server.loop, screen, screenPath(socket)));
      devices.push({ name, socket, ...(screen !== undefined && { screen: screenPath(socket) }) });
    }
  } catch (error) {
    stop();
    throw error;
  }
  for (const fd of stopFds) server.loop.add(fd, EPOLLIN, stop);
  report({ kind: 'ready', devices });
  server.run();
  for (const memory of memories) memory.close();
  report({ kind: 'stopped', ...server.census() });
}

// The only message. The thread may start before the main thread knows its devices; null means none.
parentPort!.once('message', (request: ServeRequest | null) => {
  if (request === null) return;
  try {
    serve(request);
  } catch (error) {
    const { code, reason } =
      error instanceof Errno ? error : { code: 'EIO' as const, reason: (error as Error).message };
    report({ kind: 'failed', code, message: reason });
  }
});
