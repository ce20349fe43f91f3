/** A lender with importers of every kind: honest, lying, killed. It takes its memory back and lends it again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { VFIO_USER_DEVICE_RESET } from '../../../src/abi/vfio-user.ts';
import { DMA_RESV_USAGE_READ } from '../../../src/dma-buf/resv.ts';
import { closeAll, type OwnedFd } from '../../../src/linux/fd.ts';
import { createMemfd } from '../../../src/linux/memfd.ts';
import { BlockingImporter } from '../../../src/vfio-user/dma-buf/blocking-importer.ts';
import { FuzzedImporter } from '../../fuzz/fuzzed-importer.ts';
import { Coverage } from '../../fuzz/fuzzer.ts';
import { Lender } from '../../vfio-user/lender.ts';
import { type Actor, repeat, type Stage } from './actor.ts';

/** The server disconnects an importer that keeps a revoked buffer for this long (soak.ts). The rest is for its work. */
const MAX_REVOKE_MS = 10_000;
const ROUNDS_OF_A_BUFFER = 6;

/** Importer that maps, adds a fence, and lets go when it is told. */
class HonestImporter {
  private readonly client: BlockingImporter;
  private attachment = 0;
  private isTold = false;

  constructor(buffer: OwnedFd) {
    this.client = new BlockingImporter(buffer, {
      onInvalidate: () => {
        this.isTold = true;
      },
      onRestore: () => {},
      onClose: () => {},
    });
    this.attachment = this.client.attach();
  }

  use(): void {
    if (!this.client.isOpen || this.isTold) return;
    const { id, fds } = this.client.map(this.attachment);
    closeAll(fds);
    this.client.signalFence(this.client.addFence(this.attachment, DMA_RESV_USAGE_READ));
    if (!this.isTold) this.client.unmap(id);
  }

  answer(): void {
    while (this.client.isOpen && this.client.poll(0)) {}
    this.isTold = false;
  }

  close(): void {
    this.client.close();
  }
}

class Lending {
  private readonly stage: Stage;
  private readonly lender: Lender;
  private readonly buffer: OwnedFd;
  private readonly memfd = createMemfd('soak', 4096);
  private readonly honest: HonestImporter[];
  private readonly lying: FuzzedImporter[];
  private readonly killed: ChildProcess[];

  constructor(stage: Stage) {
    this.stage = stage;
    this.lender = new Lender(stage.path('lender'));
    this.buffer = this.lender.export();
    this.honest = [1, 2].map(() => new HonestImporter(this.buffer));
    this.lying = [1, 2, 3].map(() => new FuzzedImporter(this.buffer, new Coverage()));
    const program = `${stage.folder}/../importer`;
    this.killed = [1, 2].map(() => spawn(program, [], { stdio: ['ignore', 'ignore', 'ignore', this.buffer.fd] }));
  }

  round(): void {
    for (const importer of this.lying) if (!importer.ended) importer.send(this.stage.random, this.memfd);
    for (const importer of this.honest) importer.use();
    if (this.stage.random.chance(3)) this.killed.pop()?.kill('SIGKILL');
    this.revoke();
    this.lender.memory(true);
    for (const importer of this.honest) importer.answer();
  }

  async close(): Promise<void> {
    for (const child of this.killed) child.kill('SIGKILL');
    if (this.stage.random.chance(2)) this.lender.raw.call({ command: VFIO_USER_DEVICE_RESET });
    // Sometimes the lender goes first, and its importers lose the buffer.
    if (this.stage.random.chance(2)) this.lender.close();
    for (const each of [...this.honest, ...this.lying, this.buffer, this.memfd]) each.close();
    this.lender.close();
    await Promise.all(this.killed.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'exit')));
  }

  private revoke(): void {
    const started = performance.now();
    this.lender.startMemory(false);
    while (!this.lender.hasAnswer(1)) {
      for (const importer of this.honest) importer.answer();
      for (const importer of this.lying) if (!importer.ended) importer.check(this.stage.random);
      if (performance.now() - started > MAX_REVOKE_MS) throw new Error('a revoke does not end');
    }
    this.lender.answer();
    this.stage.did('revoke');
  }
}

export const lending: Actor = (stage) =>
  repeat(stage, 'lending', async () => {
    const lending = new Lending(stage);
    for (let i = 0; i < ROUNDS_OF_A_BUFFER && stage.goesOn(); i++) lending.round();
    await lending.close();
  });
