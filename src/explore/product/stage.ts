/** Sets the product's own objects on the explorer's stage: a machine, devices, buffers, importers. */

import { DmaFence } from '../../dma-buf/fence.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import { buildMachine } from '../../machine/build.ts';
import { arrayMemory } from '../../pci/memory.ts';
import { EngineBackend } from '../../scenario/engine.ts';
import type { Step } from '../../scenario/step.ts';
import { InvariantError, runtime, type Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { Stage } from '../program.ts';
import { PEERS } from './peers.ts';

/** Steps that may fail with an errno in some orders, which is an answer and no bug. */
export class ProductStage {
  readonly backend: EngineBackend;
  private readonly stage: Stage;

  constructor(stage: Stage) {
    this.stage = stage;
    runtime.observed = false;
    try {
      this.backend = new EngineBackend(buildMachine(PEERS, arrayMemory));
    } finally {
      runtime.observed = true;
    }
    this.watchTlps();
  }

  get world(): EngineBackend['world'] {
    return this.backend.world;
  }

  /** Takes steps before the tasks start, in one piece; they must succeed. */
  prepare(steps: readonly Step[]): void {
    runtime.observed = false;
    try {
      for (const step of steps) {
        const result = runner.run(this.backend.perform(step));
        if (!('ok' in result)) throw new Error(`preparing: ${JSON.stringify(step)}: ${result.message}`);
      }
    } finally {
      runtime.observed = true;
    }
  }

  /** A task of steps whose errnos are answers. */
  task(label: string, steps: readonly Step[]): void {
    this.stage.spawn(label, this.run(steps));
  }

  /** A task of an importer that does DMA as it should: only with a live mapping, and under a fence of its own. */
  dmaTask(label: string, importerName: string, bytes: Uint8Array): void {
    this.stage.spawn(label, this.carefulDma(importerName, bytes));
  }

  /** A task of other steps, for what has no name in the language of scenarios. */
  rawTask(label: string, task: Task): void {
    this.stage.spawn(label, task);
  }

  private *carefulDma(importerName: string, bytes: Uint8Array): Task {
    const importer = this.world.importers.get(importerName)!;
    const { dmabuf } = importer;
    yield* dmabuf.resv.lock.lock();
    const mapping = [...importer.mappings][0];
    const fence = new DmaFence(`fence of ${importerName}`);
    if (mapping !== undefined) dmabuf.resv.addFence(fence, DMA_RESV_USAGE_BOOKKEEP);
    yield* dmabuf.resv.lock.unlock();
    if (mapping === undefined) return;
    const status = yield* importer.attachment.dev!.dmaWrite(mapping.table.segments[0].address, bytes);
    if (status !== 'ok') throw new InvariantError('I9', `a write under a fence was lost: ${status}`);
    yield* fence.signal();
  }

  /** At the end: the invariants that are about the end, and everything given back. */
  checkAtEnd(registrations = 1): void {
    this.stage.atEnd(() => {
      for (const device of this.world.devices.values()) {
        if (!device.isOpen) continue;
        for (const priv of device.dmabufs.get()) {
          const name = `a buffer of ${device.pdev.name}`;
          if (priv.revoked.value && device.memoryEnabled()) {
            throw new InvariantError('I6', `${name} is revoked though its memory is enabled`);
          }
          if (!priv.revoked.value && !device.pdev.memoryDecode.value) {
            throw new InvariantError('I1', `${name} is lent though its BAR does not decode`);
          }
        }
      }
      runner.run(this.backend.dispose());
      for (const device of this.world.devices.values()) {
        const references = device.registration.refcount.value;
        const wanted = device.pdev.name === 'lender' ? registrations : 1;
        if (references !== wanted) {
          throw new InvariantError('I3', `${device.pdev.name} ends with ${references} registrations, not ${wanted}`);
        }
      }
    });
  }

  private *run(steps: readonly Step[]): Task {
    for (const step of steps) yield* this.backend.perform(step);
  }

  private watchTlps(): void {
    const fabric = [...this.world.devices.values()][0].pdev.fabric;
    if (fabric === null) return;
    fabric.onStrayTlp = (tlp) => {
      const where = `BAR ${tlp.bar} of ${tlp.target.name}, which does not decode`;
      throw new InvariantError('I9', `a TLP of ${tlp.requester.name} reaches ${where}`);
    };
  }
}
