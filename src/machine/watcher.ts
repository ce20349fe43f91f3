/**
 * The main thread's view of a served machine. Counters and events come through shared memory. The serving thread is
 * asked only for its state, and for commands.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Errno } from '../abi/errno.ts';
import type { Picture } from '../device/screen.ts';
import { createEventfd, signalEventfd } from '../linux/eventfd.ts';
import type { OwnedFd } from '../linux/fd.ts';
import type { ControlCommand } from '../vfio-user/monitor/control.ts';
import { Counters } from '../vfio-user/monitor/counters.ts';
import { EventRing } from '../vfio-user/monitor/event-ring.ts';
import type { LifeEvent } from '../vfio-user/monitor/life.ts';
import { MessageRing } from '../vfio-user/monitor/message-ring.ts';
import type { ServerState } from '../vfio-user/monitor/state.ts';
import type { MachineView } from './inspect.ts';
import type { WatchAnswer, WatchJob, WatchQuestion, WatchRequest } from './serve-worker.ts';

export class Watcher {
  readonly counters: Counters;
  readonly messages = new MessageRing();
  readonly events = new EventRing<LifeEvent>();
  /** What the serving thread needs. */
  readonly request: WatchRequest;
  /** The machine as it was built. */
  readonly machine: Promise<MachineView>;
  private readonly port: MessagePort;
  private readonly wake: OwnedFd;
  private readonly jobs = new Map<number, { resolve: (result: unknown) => void; reject: (why: Error) => void }>();
  private states: ((state: ServerState) => void)[] = [];
  private nextJob = 1;
  private isClosed = false;

  constructor(devices: number, control: boolean) {
    this.counters = new Counters(devices);
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.wake = createEventfd('questions to the server');
    const memory = {
      counters: this.counters.memory,
      messages: this.messages.memory,
      events: this.events.memory,
    };
    this.request = { memory, port: port2, wakeFd: this.wake.fd, control };
    this.machine = new Promise((resolve) => {
      port1.on('message', (answer: WatchAnswer) => {
        if (answer.kind === 'machine') resolve(answer.view);
        if (answer.kind === 'state') for (const each of this.states.splice(0)) each(answer.state);
        if (answer.kind === 'done') this.take(answer.id)?.resolve(answer.result);
        if (answer.kind === 'failed') this.take(answer.id)?.reject(new Error(answer.reason));
      });
    });
    // A server ends by its own signals. The port alone does not keep the process.
    port1.unref();
  }

  /** Asks for the state. Never resolves where the server has ended. */
  state(): Promise<ServerState> {
    return new Promise((resolve) => {
      this.states.push(resolve);
      if (this.states.length === 1) this.ask({ kind: 'state' });
    });
  }

  /** Runs a command on the serving thread. Rejects with the device's errno, or ESHUTDOWN when the server ends. */
  control(command: ControlCommand): Promise<void> {
    return this.done({ kind: 'control', command });
  }

  /** Reads the first screen of a device. Rejects as Screen.picture, or with ESHUTDOWN when the server ends. */
  screen(device: string): Promise<Picture> {
    return this.done({ kind: 'screen', device });
  }

  close(): void {
    this.isClosed = true;
    this.port.close();
    this.wake.close();
    for (const { reject } of this.jobs.values()) reject(new Errno('ESHUTDOWN', 'the server has ended'));
    this.jobs.clear();
  }

  /** Has the serving thread do a job. `R` is the job's result. */
  private done<R>(job: WatchJob): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      if (this.isClosed) {
        reject(new Errno('ESHUTDOWN', 'the server has ended'));
        return;
      }
      const id = this.nextJob++;
      this.jobs.set(id, { resolve: (result) => resolve(result as R), reject });
      this.ask({ kind: 'job', id, job });
    });
  }

  private take(id: number) {
    const job = this.jobs.get(id);
    this.jobs.delete(id);
    return job;
  }

  private ask(question: WatchQuestion): void {
    if (this.isClosed) return;
    this.port.postMessage(question);
    signalEventfd(this.wake.fd);
  }
}
