/**
 * Fuzzes the asynchronous client as client.ts does the blocking one: against a server that mostly lies, with calls that
 * overlap, are aborted at any moment, or wait when the client closes. Server and client share a thread: the server has
 * its turns while a call waits. Every call settles.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { EPOLLIN } from '../../src/abi/poll.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { loopPoll } from '../../src/linux/loop-poll.ts';
import { AsyncVfioUserClient } from '../../src/vfio-user/client/async-client.ts';
import { openFds } from '../linux/open-fds.ts';
import { ASYNC_OPS } from './async-steps.ts';
import type { ClientSabotage } from './client-steps.ts';
import type { Coverage, FuzzRun } from './fuzzer.ts';
import { CallClock, demandNothingLeft, fuzzLies, judge, serveMemory } from './lied-to.ts';
import { LyingServer } from './lying-server.ts';
import { FuzzRandom } from './random.ts';

/** Few, because time decides too, so that the steps of a finding are tried again and again. */
const EPOCH_STEPS = 200;
/** Short, because a server's silence takes it in full. */
const TIMEOUT_MS = 4;
/** How long the poll of Node's loop may take to close its own descriptors. */
const MAX_END_MS = 2000;
/** The server's turns before an abort. */
const MAX_TURNS = 6;
/** A call that hangs has more turns than these. A process that gets no processor has few, however long it takes. */
const MIN_HANG_TURNS = 2000;

export interface AsyncStep {
  kind: 'async-client';
  op: string;
  seed: number;
}

export async function fuzzAsyncClient(run: FuzzRun, sabotage: ClientSabotage = {}): Promise<void> {
  const step = (op: string, seed: number): AsyncStep => ({ kind: 'async-client', op, seed });
  const before = openFds().length;
  await fuzzLies(run, Object.keys(ASYNC_OPS), { epochSteps: EPOCH_STEPS, tries: 3 }, step, (steps, coverage) =>
    runAsyncSteps(steps, coverage, sabotage),
  );
  const end = performance.now() + MAX_END_MS;
  while (openFds().length > before && performance.now() < end) await sleep(1);
}

/** Runs steps against their own server. Throws FuzzFinding or the client's defect; leaves nothing behind. */
export async function runAsyncSteps(
  steps: readonly AsyncStep[],
  coverage: Coverage,
  sabotage: ClientSabotage = {},
): Promise<void> {
  // Without it, the poll of Node's loop would close its own descriptors some time after the last client.
  const keeper = createEventfd('keeper');
  const key = loopPoll.add(keeper.fd, EPOLLIN, () => {});
  try {
    const before = openFds().length;
    const world = new AsyncWorld(coverage, sabotage);
    try {
      for (const step of steps) await world.run(step);
    } finally {
      world.close();
    }
    demandNothingLeft(before);
  } finally {
    loopPoll.remove(key);
    keeper.close();
  }
}

class AsyncWorld {
  private readonly server: LyingServer;
  private readonly coverage: Coverage;
  private readonly sabotage: ClientSabotage;
  private readonly clock = new CallClock();
  private client: AsyncVfioUserClient | null = null;

  constructor(coverage: Coverage, sabotage: ClientSabotage) {
    this.coverage = coverage;
    this.sabotage = sabotage;
    this.server = new LyingServer(new FuzzRandom(0), coverage);
  }

  async run({ op, seed }: AsyncStep): Promise<void> {
    const { server, sabotage } = this;
    server.random = new FuzzRandom(seed);
    server.lied = false;
    const random = new FuzzRandom(seed ^ 0x5eed);
    if (op === 'connect' || this.client === null) await this.take('connect', random, (signal) => this.connect(signal));
    const { client } = this;
    if (op === 'connect' || client === null) return;
    server.lied = false;
    const isHonest = () => !server.lied && !server.isWild;
    await this.take(op, random, (signal) =>
      ASYNC_OPS[op]({ client, memory: server.device.memory, random, sabotage, isHonest, options: { signal } }),
    );
    if (op === 'close') this.client = null;
  }

  close(): void {
    this.client?.close();
    this.server.close();
  }

  private async connect(signal: AbortSignal | undefined): Promise<void> {
    this.client?.close();
    this.client = null;
    this.server.hangUp();
    this.client = await AsyncVfioUserClient.connect(this.server.path, { timeoutMs: TIMEOUT_MS, signal });
    serveMemory(this.client);
  }

  /** Makes a call, gives the server its turns until it settles, and judges its end. Aborts some calls. */
  private async take(
    op: string,
    random: FuzzRandom,
    call: (signal: AbortSignal | undefined) => Promise<unknown>,
  ): Promise<void> {
    const abort = random.chance(10) ? new AbortController() : null;
    this.clock.begin();
    const abortAt = random.below(MAX_TURNS);
    let isSettled = false;
    const outcome = call(abort?.signal)
      .then(
        () => 'ok',
        (error) => this.judge(op, error, abort?.signal.aborted === true),
      )
      .finally(() => {
        isSettled = true;
      });
    for (let turns = 0; !isSettled; turns++) {
      if (turns === abortAt) abort?.abort();
      this.server.turn();
      await Promise.race([outcome, nextTurn()]);
      if (turns >= MIN_HANG_TURNS) this.clock.demandShort(`${op}, in ${turns} turns,`);
    }
    this.coverage.outcome(op, await outcome);
  }

  private judge(op: string, error: unknown, isAborted: boolean): string {
    // `several` has many errors.
    const errors: unknown[] = error instanceof AggregateError ? error.errors : [error];
    const codes = errors.map((each) => {
      if (isAborted && (each as Error).name === 'AbortError') return 'aborted';
      const { code, isLost } = judge(op, each, this.server);
      if (isLost) {
        this.client?.close();
        this.client = null;
      }
      return code;
    });
    return codes[0];
  }
}
