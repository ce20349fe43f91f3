/**
 * Sets the product's own objects on the explorer's stage: a machine, devices, buffers, importers.
 *
 * The machine is made once, and its state is put back before each run (`Stage.keep`). A run still makes many objects, so
 * a search spends much of its time on collecting garbage. Three habits of V8 decide how long an object of a run lives:
 * - V8 allocates a function among old objects if its expression is assigned directly to a property
 *   (`one.onInvalidate = () => ...`). Everything that the function reaches then outlives the run. Name the function
 *   first, or make it a field.
 * - The same holds for a generator function that is written inside another function.
 * - A base class that many classes extend (`Shared`) `declare`s its fields and assigns them in its constructor.
 * Objects that are the same in every run are kept (`configMapOf`).
 */

import { Errno } from '../../abi/errno.ts';
import { DmaFence } from '../../dma-buf/fence.ts';
import { FdTable, File } from '../../dma-buf/file.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import type { Stage } from '../../explore/world/program.ts';
import { buildMachine } from '../../machine/build.ts';
import type { MachineDescription } from '../../machine/schema.ts';
import { EngineBackend } from '../../scenario/engine/backend.ts';
import type { EngineImporter } from '../../scenario/engine/importer-driver.ts';
import type { EngineWorld } from '../../scenario/engine/world.ts';
import type { Step } from '../../scenario/step.ts';
import type { Cell } from '../../task/cell.ts';
import { InvariantError } from '../../task/lifetime.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import { unobserved } from '../../task/runtime.ts';
import { currentTask, type TaskHandle } from '../../task/task-handle.ts';
import type { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { PROFILES, type Profile } from '../../vfio/profile.ts';
import { InvariantChecker } from './invariant-checker.ts';
import { PEERS } from './machines.ts';

export class ProductStage {
  readonly backend: EngineBackend;
  readonly checker: InvariantChecker;
  private readonly stage: Stage;
  /** Holds the user's descriptor of the lender as number 0, once `taskWithFile` is called. */
  private readonly files = new FdTable(1);
  private readonly toGiveBack: (() => Task)[] = [];
  /** Whether everything that was prepared so far is kept between runs. */
  private isKept = true;

  constructor(stage: Stage, machine: MachineDescription = PEERS, profile: Profile = PROFILES.default) {
    this.stage = stage;
    const { checker, backend } = stage.keep(() => unobserved(() => built(machine, profile)));
    this.checker = checker;
    this.backend = backend;
    this.checker.watch(stage);
  }

  get world(): EngineWorld {
    return this.backend.world;
  }

  /** Runs steps in one piece before the tasks start. They must succeed. */
  prepare(steps: readonly Step[]): void {
    const perform = (): void => unobserved(() => this.performAll(steps));
    if (this.isKept) this.stage.keep(perform);
    else perform();
  }

  /** Like `prepare`, for operations that scenario steps cannot express. They may change more than the machine. */
  prepareTask<T>(task: () => Task<T>): T {
    this.isKept = false;
    return unobserved(() => runner.run(task()));
  }

  private performAll(steps: readonly Step[]): void {
    for (const step of steps) {
      const result = runner.run(this.backend.perform(step));
      if (!('ok' in result)) throw new Error(`preparing: ${JSON.stringify(step)}: ${result.message}`);
    }
  }

  /** Registers a task that releases something at the end of a run, before the engine releases its own objects. */
  giveBack(task: () => Task): void {
    this.toGiveBack.push(task);
  }

  /** Adds a task of steps. A step may fail with an errno in some orders: that is an answer, not a bug. */
  task(label: string, steps: readonly Step[]): TaskHandle {
    return this.stage.spawn(label, this.run(steps)) as TaskHandle;
  }

  /** Declares tasks alike. */
  alike(tasks: readonly TaskHandle[]): void {
    this.stage.alike(tasks);
  }

  /**
   * Like `task`, for scenarios in which the lender is closed. The lender's descriptor is a file that each step holds
   * while it runs, as with Linux's fget: the device closes when the last such step ends. Later steps get EBADF.
   */
  taskWithFile(label: string, steps: readonly Step[]): void {
    if (this.files.openCount === 0) {
      unobserved(() => runner.run(this.files.install(new DeviceFile(this.world, 'lender'))));
    }
    this.stage.spawn(label, this.runWithFile(steps));
  }

  /** Adds a task of operations that scenario steps cannot express. */
  rawTask(label: string, task: Task): void {
    this.stage.spawn(label, task);
  }

  /**
   * Adds a task of an importer that does DMA correctly: only with a live mapping, and under its own fence. `offset` is
   * where in the buffer's first range it writes.
   */
  dmaTask(label: string, importerName: string, device = 'lender', offset = 0): void {
    this.stage.spawn(label, this.carefulDma(importerName, device, offset));
  }

  /** Makes the importer map whenever it may and unmap whenever it must, all in its callback. */
  keepMapped(importerName: string): void {
    const importer = this.importer(importerName);
    // Written directly in the assignment, the function would outlive the run (see the head of this file).
    const remap = (): Task => mapIfUsable(importer);
    importer.afterInvalidate = remap;
  }

  /** Counts in `told` how often the importer's callback was called. */
  countTold(importerName: string, told: Cell<number>): void {
    this.importer(importerName).afterInvalidate = () => told.update((before) => before + 1);
  }

  /** Adds a task that unmaps the importer's mappings once as many callbacks were called as `told` must count. */
  unmapTask(importerName: string, told: Cell<number>, wanted: number): void {
    this.stage.spawn(importerName, unmapWhen(this.importer(importerName), told, wanted));
  }

  /** Calls `check` after each run, before anything is released. It throws InvariantError for a broken invariant. */
  check(check: () => void): void {
    this.stage.atEnd(check);
  }

  /** Checks the invariants about the end of a run, and releases everything. */
  checkAtEnd(registrations = 1): void {
    this.stage.atEnd(() => {
      this.checker.checkEnd();
      runner.run(this.files.closeAll());
      for (const giveBack of this.toGiveBack) runner.run(giveBack());
      runner.run(this.backend.dispose());
      for (const device of this.world.devices.values()) {
        const references = device.registration.refcount.value;
        const wanted = device.pdev.name === 'lender' ? registrations : 1;
        if (references === wanted) continue;
        const message = `${device.pdev.name} ends with ${references} registrations, not ${wanted}`;
        throw new InvariantError('I3', message, device.registration.refcount);
      }
    });
  }

  private importer(name: string): EngineImporter {
    return this.world.importers.get(name)!;
  }

  private *carefulDma(importerName: string, deviceName: string, offset: number): Task {
    const importer = this.importer(importerName);
    const { dmabuf } = importer;
    const bytes = Uint8Array.of(1, 2, 3, offset & 0xff);
    yield* dmabuf.resv.lock.lock();
    const mapping = [...importer.mappings][0];
    const fence = new DmaFence(`fence of ${importerName}`);
    if (mapping !== undefined) yield* dmabuf.resv.addFence(fence, DMA_RESV_USAGE_BOOKKEEP);
    yield* dmabuf.resv.lock.unlock();
    if (mapping === undefined) return;
    mapping.table.lifetime.check('DMA');
    const status = yield* importer.attachment.dev!.dmaWrite(mapping.table.segments[0].address + offset, bytes);
    if (status !== 'ok') throw new InvariantError('I9', `a write under a fence was lost: ${status}`);
    this.checker.wrote(importerName, this.world.device(deviceName), dmabuf.priv as VfioPciDmaBuf, offset, bytes);
    yield* fence.signal();
  }

  private *runWithFile(steps: readonly Step[]): Task {
    for (const step of steps) {
      currentTask().activity = activityOf(step);
      try {
        if (step.op === 'close') yield* this.files.close(0);
        else {
          const file = yield* this.files.get(0);
          yield* this.backend.perform(step);
          yield* file.put();
        }
      } catch (error) {
        if (!(error instanceof Errno)) throw error;
      }
    }
  }

  private *run(steps: readonly Step[]): Task {
    for (const step of steps) {
      currentTask().activity = activityOf(step);
      yield* this.backend.perform(step);
    }
  }
}

/** A machine with the checker of its invariants. */
function built(machine: MachineDescription, profile: Profile): { checker: InvariantChecker; backend: EngineBackend } {
  const checker = new InvariantChecker();
  const parts = buildMachine(machine, checker.memory);
  const backend = new EngineBackend(parts, profile);
  checker.begin(backend.world, parts.fabric);
  backend.world.onInvalidate = checker.onInvalidate;
  return { checker, backend };
}

function* unmapWhen(importer: EngineImporter, told: Cell<number>, wanted: number): Task {
  yield* told.waitUntil((count) => count === wanted);
  for (const mapping of [...importer.mappings]) yield* importer.unmap(mapping);
}

function* mapIfUsable(importer: EngineImporter): Task {
  const { revoked } = importer.dmabuf.priv as VfioPciDmaBuf;
  if (!revoked.value) yield* importer.mapLocked();
}

/** The user's descriptor of an open device. */
class DeviceFile extends File {
  private readonly world: EngineWorld;
  private readonly device: string;

  constructor(world: EngineWorld, device: string) {
    super('vfio device file');
    this.world = world;
    this.device = device;
  }

  protected release(): Task {
    return this.world.deviceFiles.close(this.world.device(this.device));
  }
}

/** Computed when a timeline asks for it: most runs are never shown. */
function activityOf(step: Step): () => string {
  return () => inWords(step);
}

/** A step as a timeline's heading: `memory lender off`. */
function inWords(step: Step): string {
  const { op, ...rest } = step as { op: string } & Record<string, unknown>;
  const words = Object.entries(rest).map(([key, value]) => {
    if (key === 'on') return value === true ? 'on' : 'off';
    return key === 'state' ? `D${value}` : key === 'as' || typeof value === 'object' ? '' : String(value);
  });
  return [op, ...words].filter((word) => word !== '').join(' ');
}
