/**
 * In the guest: a lender under vfio-pci, and a virtio GPU under the kernel's virtio_gpu. The lender lends a screen's
 * bytes of its BAR. The GPU's driver imports them by PRIME, and the GPU shows them.
 */
import { LinuxBackend } from '../../../src/scenario/kernel/backend.ts';
import type { StartedThreads } from '../../../src/scenario/kernel/started.ts';
import type { Step } from '../../../src/scenario/step.ts';
import { runner } from '../../../src/task/runner.ts';
import { pattern } from '../../importer/pattern.ts';
import type { PeerTrigger, ScreenTrialAnswer, ScreenTrialRequest } from '../calls.ts';
import { outcomeOf, perform, pull } from '../steps.ts';
import { device, memory, TRIGGERS } from '../triggers.ts';
import { Card, type Framebuffer } from './card.ts';

const BUFFER = 'buffer';
const STARTED = 'revoke';

export class ScreenTrial {
  private readonly release: string;
  private readonly threads: StartedThreads;
  private backend: LinuxBackend | null = null;
  private card: Card | null = null;
  private own: Framebuffer | null = null;
  private imported: Framebuffer | null = null;
  private offset = 0;

  constructor(release: string, threads: StartedThreads) {
    this.release = release;
    this.threads = threads;
  }

  begin(addresses: { lender: string; gpu: string }): ScreenTrialAnswer {
    const { threads } = this;
    this.backend = new LinuxBackend(this.release, new Map(Object.entries(addresses)), { threads });
    this.card = new Card(addresses.gpu);
    this.step({ op: 'open', device });
    this.step(memory(true));
    const { width, height } = this.card;
    return { width, height };
  }

  draw(seed: number): void {
    const card = this.card!;
    this.own ??= card.draw(pattern(seed, 0, card.sizeBytes));
    card.show(this.own);
  }

  lend(offset: number): void {
    const card = this.card!;
    this.offset = offset;
    this.step({ op: 'export', device, region: 0, ranges: [[offset, card.sizeBytes]], as: BUFFER });
    this.imported = card.import(this.backend!.world.fd(BUFFER).fd);
    card.show(this.imported);
  }

  show(): ScreenTrialAnswer {
    return { shown: outcomeOf(() => this.card!.show(this.imported!)) };
  }

  revoke(trigger: PeerTrigger): ScreenTrialAnswer {
    return { triggerMs: pull(this.backend!, trigger) };
  }

  restore(trigger: PeerTrigger): ScreenTrialAnswer {
    if (trigger === 'close') {
      this.drop();
      this.step({ op: 'open', device });
      this.step(memory(true));
      this.lend(this.offset);
      return { shown: 'ok' };
    }
    const { undo } = TRIGGERS[trigger];
    if (undo !== undefined) this.step(undo);
    return this.show();
  }

  drop(): void {
    this.card!.free(this.imported!);
    this.imported = null;
    this.step({ op: 'close-fd', fd: BUFFER });
  }

  startRevoke(): ScreenTrialAnswer {
    const step = { op: 'memory', device, on: false } as const;
    return { revoke: String(this.step({ op: 'start', step, as: STARTED })) };
  }

  joinRevoke(): ScreenTrialAnswer {
    this.backend!.world.started.settle();
    const revoke = this.step({ op: 'join', of: STARTED }) === 'blocked' ? 'blocked' : 'ended';
    if (revoke === 'ended') this.step(memory(true));
    return { revoke };
  }

  end(): void {
    this.card?.close();
    if (this.backend !== null) runner.run(this.backend.dispose());
  }

  private step(step: Step): unknown {
    return perform(this.backend!, step);
  }
}

/** Has a trial serve a request of the host. */
export function answerScreen(trial: ScreenTrial, request: ScreenTrialRequest): ScreenTrialAnswer {
  switch (request.do) {
    case 'begin':
      return trial.begin(request.addresses);
    case 'draw':
      trial.draw(request.seed);
      return {};
    case 'lend':
      trial.lend(request.offset);
      return {};
    case 'show':
      return trial.show();
    case 'revoke':
      return trial.revoke(request.trigger);
    case 'restore':
      return trial.restore(request.trigger);
    case 'drop':
      trial.drop();
      return {};
    case 'start-revoke':
      return trial.startRevoke();
    case 'join-revoke':
      return trial.joinRevoke();
    case 'end':
      trial.end();
      return {};
  }
}
