/**
 * Importers in other processes (docs/dma-buf-socket.md): the exporter's own sessions, and processes that answer at
 * once, late, or never, or die. The explorer schedules the messages between them.
 */
import { Errno } from '../../abi/errno.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Memory } from '../../pci/memory.ts';
import type { Step } from '../../scenario/step.ts';
import { Cell } from '../../task/cell.ts';
import { InvariantError } from '../../task/lifetime.ts';
import type { Task } from '../../task/op.ts';
import { ExporterSession } from '../../vfio-user/dma-buf/exporter-session.ts';
import type { InvalidateRequest } from '../../vfio-user/dma-buf/remote-mapping.ts';
import { SharedBars } from '../../vfio-user/dma-buf/shared-bars.ts';
import { EXPORT, OFF, ON, OPEN, scenario } from './family.ts';
import type { ProductStage } from './stage.ts';

/** Makes the move of a BAR a step that other tasks observe. The process keeps the old memory, which no BAR uses. */
class WatchedBars extends SharedBars {
  private readonly mapped: Cell<number>;

  constructor(mapped: Cell<number>) {
    super(() => {});
    this.mapped = mapped;
  }

  override *drop(memory: Memory, isKept: boolean): Task {
    yield* super.drop(memory, isKept);
    if (isKept) yield* this.mapped.store(0);
  }
}

/** The process at the other end: what it was told, and what it can reach. Each of its requests is a task. */
class RemoteProcess {
  readonly session: ExporterSession;
  private readonly decode: Cell<boolean>;
  /** The messages to the process, in order. Null stands for any message other than INVALIDATE. */
  private readonly inbox = new Cell<readonly (InvalidateRequest | null)[]>('messages to the importer', []);
  /** How many mappings of the BAR the process really has, whatever the exporter believes. */
  private readonly mapped = new Cell('mappings of the process', 0);
  private attachment = 0;
  private mapping = 0;
  private fence = 0;
  private ended = false;

  constructor(set: ProductStage) {
    const { pdev } = set.world.device('lender');
    this.decode = pdev.memoryDecode;
    pdev.bars[0]!.target.memory!.renew = () => {};
    const dmabuf = set.prepareTask(() => set.world.getDmabuf('buf'));
    const link = {
      invalidate: (told: InvalidateRequest) => this.send(told),
      *restore() {
        for (const attachment of dmabuf.attachments.get()) set.checker.wasTold(attachment);
      },
    };
    this.session = new ExporterSession(dmabuf, link, new WatchedBars(this.mapped));
    set.giveBack(() => this.die());
  }

  *attach(): Task {
    yield* this.session.attach((id) => this.gotAttachment(id));
  }

  private *gotAttachment(id: number): Task {
    this.attachment = id;
    yield* this.send(null);
  }

  /** The process has the mapping from the moment the reply leaves: an INVALIDATE comes before or after it. */
  *map(): Task {
    yield* this.session.map(this.attachment, true, ({ id }) => this.gotMapping(id));
  }

  private *gotMapping(id: number): Task {
    yield* this.send(null);
    this.mapping = id;
    yield* this.setMapped(1);
  }

  /** A store through the mapping. The BAR must decode if the mapping still exists. */
  *store(): Task {
    // In this order: a process that has lost its mapping since the first load may store, one that still has it may not.
    const decodes = yield* this.decode.load();
    if ((yield* this.mapped.load()) <= 0 || decodes) return;
    throw new InvariantError('I9', 'a process writes through its mapping to a BAR that does not decode');
  }

  *unmap(): Task {
    yield* this.letGo();
    yield* this.session.unmap(this.mapping);
  }

  *detach(): Task {
    yield* this.letGo();
    yield* this.session.detach(this.attachment);
    yield* this.send(DETACHED);
  }

  *addFence(): Task {
    yield* this.session.addFence(this.attachment, DMA_RESV_USAGE_BOOKKEEP, (id) => this.gotFence(id));
  }

  private *gotFence(id: number): Task {
    this.fence = id;
    yield* this.send(null);
  }

  *signal(): Task {
    yield* this.store();
    yield* this.session.signalFence(this.fence, null);
  }

  /** Handles one INVALIDATE correctly: ends the work, unmaps, then replies. */
  *answer(): Task {
    yield* this.inbox.waitUntil(isTold);
    const told = (yield* this.inbox.load()).find((message) => message !== null)!;
    if (told === DETACHED) return;
    yield* this.letGo();
    yield* this.session.acknowledge(told);
  }

  /** The process dies. Its memory goes before its sockets do. */
  *die(): Task {
    yield* this.store();
    yield* this.setMapped(DEAD);
    yield* this.end(false);
  }

  /** The exporter disconnects the process because its reply took too long. The process lives on. */
  *timeOut(): Task {
    yield* this.inbox.waitUntil(isTold);
    yield* this.end(true);
  }

  private *letGo(): Task {
    yield* this.store();
    yield* this.setMapped(0);
  }

  /** A dead process maps nothing, even if a reply is still on its way to it. */
  private *setMapped(count: number): Task {
    yield* this.mapped.update((before) => (before === DEAD ? DEAD : count));
  }

  private *end(isKept: boolean): Task {
    if (this.ended) return;
    this.ended = true;
    yield* this.session.end(isKept);
  }

  private *send(message: InvalidateRequest | null): Task {
    yield* this.inbox.update((messages) => [...messages, message]);
  }
}

const DEAD = -1;
/** Ends a listener that will get no more messages. */
const DETACHED: InvalidateRequest = { attachment: 0, mappings: [], fences: [] };

function isTold(messages: readonly (InvalidateRequest | null)[]): boolean {
  return messages.some((message) => message !== null);
}

type RemoteRequest = (process: RemoteProcess) => Task;

/** Runs requests. A request that comes too late gets an errno, which is a correct answer. */
function* tolerant(process: RemoteProcess, requests: readonly RemoteRequest[]): Task {
  for (const request of requests) {
    try {
      yield* request(process);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
    }
  }
}

const ATTACH: RemoteRequest = (process) => process.attach();
const MAP: RemoteRequest = (process) => process.map();
const UNMAP: RemoteRequest = (process) => process.unmap();
const DETACH: RemoteRequest = (process) => process.detach();
const STORE: RemoteRequest = (process) => process.store();
const ANSWER: RemoteRequest = (process) => process.answer();
const ADD_FENCE: RemoteRequest = (process) => process.addFence();
const SIGNAL: RemoteRequest = (process) => process.signal();
const DIE: RemoteRequest = (process) => process.die();
const TIME_OUT: RemoteRequest = (process) => process.timeOut();

function remote(
  name: string,
  summary: string,
  before: readonly RemoteRequest[],
  tasks: Record<string, readonly RemoteRequest[]>,
  revoker: readonly Step[] = [OFF],
): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN, EXPORT]);
    const process = new RemoteProcess(set);
    set.prepareTask(() => tolerant(process, before));
    set.task('revoker', revoker);
    for (const [label, requests] of Object.entries(tasks)) set.rawTask(label, tolerant(process, requests));
  });
}

export const REMOTE_IMPORTERS: readonly ProgramFamily[] = [
  remote(
    'revoke-vs-remote-answer',
    'memory goes off and on while an importer in another process answers, and maps again',
    [ATTACH, MAP],
    { importer: [ANSWER, MAP, UNMAP] },
    [OFF, ON],
  ),
  remote('revoke-vs-remote-map', 'memory goes off while an importer in another process maps', [ATTACH], {
    mapper: [MAP, STORE],
    listener: [ANSWER],
  }),
  remote(
    'revoke-vs-remote-unmap',
    'memory goes off while an importer in another process unmaps: the two messages cross',
    [ATTACH, MAP],
    { unmapper: [UNMAP], listener: [ANSWER] },
  ),
  remote('revoke-vs-remote-detach', 'memory goes off while an importer in another process detaches', [ATTACH, MAP], {
    detacher: [DETACH],
    listener: [ANSWER],
  }),
  remote('revoke-vs-remote-attach', 'memory goes off while an importer in another process attaches, and dies', [], {
    importer: [ATTACH],
    death: [DIE],
  }),
  remote(
    'revoke-vs-remote-fence',
    'memory goes off while an importer in another process answers first, and signals its fence after that',
    [ATTACH, MAP, ADD_FENCE],
    { listener: [ANSWER], engine: [SIGNAL] },
  ),
  remote(
    'revoke-vs-remote-death',
    'memory goes off while an importer in another process dies with a mapping and a fence',
    [ATTACH, MAP, ADD_FENCE],
    { process: [STORE, DIE] },
  ),
  remote(
    'revoke-vs-remote-map-and-death',
    'memory goes off while an importer in another process dies in the middle of a map',
    [ATTACH],
    { mapper: [MAP], death: [DIE] },
  ),
  remote(
    'revoke-vs-remote-fence-and-death',
    'memory goes off while an importer in another process dies in the middle of adding a fence',
    [ATTACH],
    { fencer: [ADD_FENCE], death: [DIE] },
  ),
  remote(
    'revoke-vs-remote-fence-and-detach',
    'memory goes off while an importer in another process detaches in the middle of adding a fence',
    [ATTACH],
    { fencer: [ADD_FENCE], detacher: [DETACH] },
  ),
  remote(
    'revoke-vs-remote-timeout',
    'an importer in another process does not answer, and is disconnected; it goes on to write',
    [ATTACH, MAP],
    { process: [STORE, STORE], timer: [TIME_OUT] },
  ),
  remote(
    'revoke-vs-remote-late-answer',
    'an importer in another process answers while it is being disconnected',
    [ATTACH, MAP],
    { listener: [ANSWER], timer: [TIME_OUT] },
  ),
];
