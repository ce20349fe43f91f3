/** Puts a served machine on the board: what it is, its state, and what happens. */
import type { MachineDescription } from '../machine/schema.ts';
import type { Watcher } from '../machine/watcher.ts';
import type { DeviceCounts } from '../vfio-user/monitor/counters.ts';
import type { ServerState } from '../vfio-user/monitor/state.ts';
import type { Board } from './board.ts';
import { exchangeRow } from './exchange-row.ts';
import { processName } from './process-name.ts';
import { Rates } from './rates.ts';

/** How often the board changes while somebody looks. */
const WATCHED_MS = 500;
/** How often events are taken while nobody looks, so that a viewer who comes later sees the life of a buffer. */
const UNWATCHED_MS = 1000;
const KEPT_EVENTS = 1000;
const KEPT_MESSAGES = 300;
const KEPT_SAMPLES = 240;

export class ServeBoard {
  private readonly board: Board;
  private readonly watcher: Watcher;
  private readonly devices: readonly string[];
  private readonly onTick: () => void;
  private readonly rates = new Rates();
  private timer: NodeJS.Timeout | null = null;
  private eventsLost = 0;
  private isAsking = false;
  private isWatched = false;

  /** `onTick` is called after each change of the board. */
  constructor(board: Board, watcher: Watcher, description: MachineDescription, onTick: () => void) {
    this.board = board;
    this.watcher = watcher;
    this.onTick = onTick;
    this.devices = description.devices.map(({ name }) => name);
    const { machine, description: sentence, ports, devices } = description;
    const places = devices.map(({ name, port, model }) => ({ name, port, model }));
    const drawn = ports.map(({ name, kind, parent }) => ({ name, kind, parent: parent ?? null }));
    void watcher.machine.then((view) => {
      board.set('machine', { ...view, machine, description: sentence, ports: drawn, places, pid: process.pid });
    });
    this.schedule();
  }

  /** Looks more often, and at each message, while somebody looks. */
  watch(isWatched: boolean): void {
    if (this.isWatched === isWatched) return;
    this.isWatched = isWatched;
    this.watcher.messages.watch(isWatched);
    if (isWatched) this.rates.sample(Date.now(), this.counts());
    this.schedule();
    if (isWatched) this.tick();
  }

  /** Shows the last events before it ends. */
  close(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.tick();
  }

  private schedule(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = setInterval(() => this.tick(), this.isWatched ? WATCHED_MS : UNWATCHED_MS);
    // The serving thread keeps the process.
    this.timer.unref();
  }

  private counts(): Map<string, DeviceCounts> {
    return new Map(this.devices.map((name, i) => [name, this.watcher.counters.read(i)]));
  }

  private tick(): void {
    const { events, dropped } = this.watcher.events.take();
    this.board.add('life', events, KEPT_EVENTS);
    this.eventsLost += dropped;
    if (dropped > 0) this.board.set('events-lost', this.eventsLost);
    if (!this.isWatched) {
      // Nobody gets these changes: those who come get the whole board.
      this.board.takeChanges();
      return;
    }
    const messages = this.watcher.messages.take();
    this.board.add(
      'messages',
      messages.exchanges.map((exchange) => exchangeRow(exchange, this.devices)),
      KEPT_MESSAGES,
    );
    this.board.set('messages-left-out', messages.dropped);
    const hits = [...this.watcher.counters.limitHits()].filter(([, count]) => count > 0);
    this.board.set('limit-hits', Object.fromEntries(hits));
    this.board.add('rates', [this.rates.sample(Date.now(), this.counts())], KEPT_SAMPLES);
    this.onTick();
    this.askForState();
  }

  /** The serving thread may be busy: one question at a time. */
  private askForState(): void {
    if (this.isAsking) return;
    this.isAsking = true;
    void this.watcher.state().then((state) => {
      this.isAsking = false;
      this.board.set('state', { ...state, processes: processNames(state) });
      this.onTick();
    });
  }
}

/** The names of the processes that have devices or import buffers, by pid. */
function processNames({ devices, buffers }: ServerState): Record<number, string> {
  const clients = devices.flatMap(({ client }) => client?.pid ?? []);
  const importers = buffers.flatMap((buffer) => buffer.importers.map(({ name }) => name));
  const pids = importers.flatMap((name) => /^process (\d+)$/.exec(name)?.[1] ?? []).map(Number);
  const name = (pid: number) => (pid === process.pid ? 'this page' : processName(pid));
  return Object.fromEntries([...new Set([...clients, ...pids])].map((pid) => [pid, name(pid)]));
}
