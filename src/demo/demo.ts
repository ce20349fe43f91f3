/**
 * The main job from end to end, between processes. A server has two devices; the client here lends a BAR of one to the
 * other, moves bytes, and takes the BAR back by every trigger.
 */
import { PeerDemo } from './peer-demo.ts';
import { openFds, type ServerProcess, startServer, stopServer } from './server-process.ts';

export interface DemoStep {
  name: string;
  ok: boolean;
  ms: number;
  detail: string;
}

/** People who watch the demo on a page. */
export interface Audience {
  /** Called with the address of the server's own page. */
  onServer(url: string): void;
  /** Waits so long that they can follow. */
  pause(): Promise<void>;
}

/**
 * Runs the demo, and calls `onStep` as each step ends. Stops at the first step that fails. With an audience it pauses
 * after each step and each revoke; the times of the steps are those without the pauses.
 */
export async function runDemo(
  machinePath: string,
  onStep: (step: DemoStep) => void,
  audience?: Audience,
): Promise<DemoStep[]> {
  let pausedMs = 0;
  const pause = async (): Promise<void> => {
    if (audience === undefined) return;
    const since = performance.now();
    await audience.pause();
    pausedMs += performance.now() - since;
  };
  const steps: DemoStep[] = [];
  const fdsBefore = openFds();
  const take = async (name: string, action: () => string | Promise<string>): Promise<boolean> => {
    const started = performance.now() - pausedMs;
    let step: DemoStep;
    try {
      step = { name, ok: true, ms: 0, detail: await action() };
    } catch (error) {
      step = { name, ok: false, ms: 0, detail: (error as Error).message };
    }
    step.ms = Math.round((performance.now() - pausedMs - started) * 10) / 10;
    steps.push(step);
    onStep(step);
    await pause();
    return step.ok;
  };
  let server: ServerProcess | null = null;
  let demo: PeerDemo | null = null;
  const started = await take('serve two devices', async () => {
    server = await startServer(machinePath, audience !== undefined);
    if (server.http !== undefined) audience?.onServer(server.http);
    return `process ${server.process.pid}: ${[...server.paths.keys()].join(', ')}`;
  });
  if (started) {
    const connected = await take('connect', () => {
      demo = new PeerDemo(server!.paths, pause);
      return 'two devices over UNIX sockets';
    });
    if (connected) for (const [name, action] of demo!.steps()) if (!(await take(name, action))) break;
  }
  demo = demo as PeerDemo | null;
  demo?.close();
  if (server !== null) {
    const running: ServerProcess = server;
    await take('leave nothing behind', () => stopServer(running, fdsBefore));
  }
  return steps;
}
