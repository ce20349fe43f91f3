/** A machine on sockets, served by a thread of its own. */
import type { Worker } from 'node:worker_threads';
import { Errno } from '../abi/errno.ts';
import { createEventfd, signalEventfd } from '../linux/eventfd.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { startWorker } from '../linux/worker.ts';
import { asProfile, type Profile, type ProfileName } from '../vfio/profile.ts';
import type { Log } from '../vfio-user/wire/log.ts';
import type { TappedMessage } from '../vfio-user/wire/tap.ts';
import type { MachineDescription } from './schema.ts';
import type { DeviceSockets, ServeReport, ServeRequest } from './serve-worker.ts';
import { TapMeter } from './tap-meter.ts';
import type { Watcher } from './watcher.ts';

/** How a server is watched. */
export interface WatchOptions {
  /** Whether the watcher may also fire triggers. */
  readonly control: boolean;
}

/** How to serve a machine. */
export interface ServeOptions {
  /** The folder of the sockets, which must exist. */
  socketDir: string;
  /** The behaviour where Linux is laxer. Default: `default`. */
  profile?: ProfileName | Profile;
  /** How long an importer in another process may keep mappings and fences after an INVALIDATE. */
  importerTimeoutMs?: number | undefined;
  /**
   * Serving also ends when one of these is readable, such as a pidfd. They stay the caller's, and must stay open until
   * then.
   */
  until?: readonly OwnedFd[];
  /** Gets the reasons why clients were dropped, and defects. A client that loops is logged now and then only. */
  log?: Log;
  /**
   * Gets every message on the sockets of the devices, and the number that was lost before it. Messages are lost while
   * the main thread does not keep up.
   */
  tap?: ((message: TappedMessage, lost: number) => void) | undefined;
  /** Watches the server: counters, events and state. */
  watch?: WatchOptions | undefined;
  /** A worker that runs serve-worker.ts and waits for its request. Started early, it has loaded its modules by now. */
  thread?: Worker | undefined;
}

/** A machine that a thread serves. */
export interface ServedMachine {
  /** The devices in the order of the description. */
  readonly devices: readonly DeviceSockets[];
  /** Null unless ServeOptions.watch asked for it. */
  readonly watcher: Watcher | null;
  /** Ends every connection, removes the sockets, and resolves when the thread has ended. */
  stop(): Promise<void>;
  /** Rejects when the thread dies on its own; resolves after `stop`. */
  readonly ended: Promise<void>;
}

/** Serves each device at socketDir/NAME.sock (0600). Rejects with the reason when a socket cannot be made. */
export async function serveMachine(description: MachineDescription, options: ServeOptions): Promise<ServedMachine> {
  const watcher = options.watch === undefined ? null : await watcherOf(description, options.watch);
  const stopEvent = createEventfd('stop');
  const { socketDir, profile = 'default', importerTimeoutMs, tap } = options;
  const tapped = tap === undefined ? null : new TapMeter();
  const request: ServeRequest = {
    description,
    socketDir,
    profile: asProfile(profile),
    importerTimeoutMs,
    tapped: tapped?.memory ?? null,
    watch: watcher?.request ?? null,
    stopFds: [stopEvent, ...(options.until ?? [])].map(({ fd }) => fd),
  };
  const worker = options.thread ?? startWorker('./serve-worker', import.meta.url);
  worker.postMessage(request, watcher === null ? [] : [watcher.request.port]);
  return new Promise((resolve, reject) => {
    let failure: Error | null = null;
    const ended = new Promise<void>((end, fail) => {
      worker.on('exit', (code) => {
        stopEvent.close();
        watcher?.close();
        if (code !== 0) failure ??= new Error(`the serving thread ended with status ${code}`);
        if (failure !== null) reject(failure);
        if (failure === null) end();
        else fail(failure);
      });
    });
    // A caller that ignores `ended` gets the failure from the rejected start.
    ended.catch(() => {});
    worker.on('error', (error) => {
      failure = error;
    });
    worker.on('message', (report: ServeReport) => {
      if (report.kind === 'log') options.log?.(report.line, report.about);
      if (report.kind === 'tap') {
        tapped?.take(report.message);
        tap?.(report.message, report.lost);
      }
      if (report.kind === 'failed') failure = new Errno(report.code, report.message);
      if (report.kind !== 'ready') return;
      const stop = () => {
        if (worker.threadId !== -1) signalEventfd(stopEvent.fd);
        return ended;
      };
      resolve({ devices: report.devices, watcher, ended, stop });
    });
  });
}

/** Loads the watcher's code only where a server is watched: others start sooner. */
async function watcherOf(description: MachineDescription, { control }: WatchOptions): Promise<Watcher> {
  const { Watcher } = await import('./watcher.ts');
  return new Watcher(description.devices.length, control);
}
