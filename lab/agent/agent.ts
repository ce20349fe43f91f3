/** Runs in the guest: reads calls from the virtio port and answers each, until a call tells it to end. */
import { spawnSync } from 'node:child_process';
import { openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import { isMainThread, Worker } from 'node:worker_threads';
import { LabImporter } from '../../src/linux/lab-importer.ts';
import { bindToVfioPci, listPciDevices, readPciDevice } from '../../src/linux/sysfs.ts';
import { CaptureError, captureMachine } from '../../src/machine/capture.ts';
import type { Backend } from '../../src/scenario/backend.ts';
import { LinuxBackend } from '../../src/scenario/kernel/backend.ts';
import { StartedThreads } from '../../src/scenario/kernel/started.ts';
import { serveStartedSteps } from '../../src/scenario/kernel/started-worker.ts';
import { runScenario } from '../../src/scenario/run.ts';
import type { Step, StepResult } from '../../src/scenario/step.ts';
import type { Task } from '../../src/task/op.ts';
import type { AgentCalls } from './calls.ts';
import { accessConfig } from './config-accesses.ts';
import { useOwnDevice } from './own-device.ts';
import { answerPeer } from './peer/answer.ts';
import { PeerTrial } from './peer/trial.ts';
import { answerScreen, ScreenTrial } from './screen/trial.ts';
import { elapsedMs } from './steps.ts';

function captureOrNull(address: string): string | null {
  try {
    return captureMachine([readPciDevice(address)]);
  } catch (error) {
    if (error instanceof CaptureError) return null;
    throw error;
  }
}

type Handlers = { [Name in keyof AgentCalls]: (p: AgentCalls[Name]['parameters']) => AgentCalls[Name]['result'] };

/** Times each step. The times are in the order in which steps end, like the steps of the result. */
class TimedBackend implements Backend {
  readonly name: string;
  readonly rules = 'linux-7.3';
  readonly ms: number[] = [];
  private readonly backend: Backend;

  constructor(backend: Backend) {
    this.backend = backend;
    this.name = backend.name;
  }

  *perform(step: Step): Task<StepResult> {
    const started = performance.now();
    const result = yield* this.backend.perform(step);
    this.ms.push(elapsedMs(started));
    return result;
  }

  dispose(): Task {
    return this.backend.dispose();
  }
}

/** The trials under way. */
let peer: PeerTrial | null = null;
let screen: ScreenTrial | null = null;
/** The threads for steps that start others. */
let threads: StartedThreads;

const handlers: Handlers = {
  hello: () => ({ release: release(), devices: listPciDevices() }),
  bind: ({ addresses }) => {
    for (const address of addresses) bindToVfioPci(address);
    return null;
  },
  scenario: ({ scenario, addresses }) => {
    const timed = new TimedBackend(new LinuxBackend(release(), new Map(Object.entries(addresses)), { threads }));
    return { ...runScenario(scenario, timed), ms: timed.ms };
  },
  capture: ({ addresses }) => Object.fromEntries(addresses.map((address) => [address, captureOrNull(address)])),
  peer: (request) => {
    peer ??= new PeerTrial(release());
    const answer = answerPeer(peer, request);
    if (request.do === 'end') peer = null;
    return answer;
  },
  screen: (request) => {
    // A trial that waits for good is left as it is.
    if (request.do === 'begin') screen = new ScreenTrial(release(), threads);
    return answerScreen(screen!, request);
  },
  ownDevice: ({ address }) => useOwnDevice(address),
  configAccesses: accessConfig,
  memcpy: ({ address, copies }) => {
    const importer = new LabImporter();
    try {
      return copies.map(({ from, to, length, seed }) => importer.memcpy(address, from, to, length, seed));
    } finally {
      importer.close();
    }
  },
  shell: ({ command }) => {
    const { status, stdout, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' });
    return { status, stdout, stderr };
  },
};

/** The virtio port's device node, found by the name that the host gave the port. */
function findPort(): string {
  const ports = '/sys/class/virtio-ports';
  const port = readdirSync(ports).find((name) => readFileSync(join(ports, name, 'name'), 'utf8').trim() === 'barter');
  if (port === undefined) throw new Error(`no virtio port is named barter in ${ports}`);
  return `/dev/${port}`;
}

function serve(): void {
  const port = openSync(findPort(), 'r+');
  const say = (reply: unknown) => {
    const bytes = Buffer.from(`${JSON.stringify(reply)}\n`);
    for (let at = 0; at < bytes.length; ) at += writeSync(port, bytes, at);
  };
  say({ id: 0, result: 'ready' });
  const chunk = Buffer.alloc(64 * 1024);
  const decoder = new StringDecoder('utf8');
  let text = '';
  for (;;) {
    const length = readSync(port, chunk);
    // The host has closed its end of the port.
    if (length === 0) return;
    text += decoder.write(chunk.subarray(0, length));
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = text.slice(0, end);
      text = text.slice(end + 1);
      const { id, name, parameters } = JSON.parse(line) as { id: number; name: string; parameters: unknown };
      if (name === 'exit') return;
      say(answer(id, name as keyof Handlers, parameters as never));
    }
  }
}

function answer(id: number, name: keyof Handlers, parameters: never): unknown {
  try {
    return { id, result: handlers[name](parameters) };
  } catch (error) {
    return { id, error: (error as Error).stack };
  }
}

// The agent's threads run this same file, since the guest gets only one file.
if (isMainThread) {
  threads = await StartedThreads.create((shared) => new Worker(new URL(import.meta.url), { workerData: { shared } }));
  serve();
} else {
  serveStartedSteps();
}
