/** Devices that must stop while they work: migrations and resets of a DMA engine (I10). */
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_CHANSTS_OFFSET,
  IOAT_CHANSTS_STATUS,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import {
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
} from '../../abi/vfio-feature.ts';
import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { InvariantError } from '../../task/lifetime.ts';
import type { Task } from '../../task/op.ts';
import { ON, OPEN, scenario } from './family.ts';
import type { ProductStage } from './stage.ts';

/** The place in the lender's BAR of a descriptor chain that copies within the BAR. */
const CHAIN = 0x1000;
const BYTES = 64;
const DESCRIPTORS = 2;

const write = (device: string, offset: number, bytes: Uint8Array): Step => ({
  op: 'region-write',
  device,
  region: 0,
  offset,
  bytes: Buffer.from(bytes).toString('hex'),
});
/** The doorbell. */
const START: Step = write(
  'borrower',
  IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAN_DMACOUNT_OFFSET,
  Uint8Array.of(DESCRIPTORS, 0),
);

/** The engine before its doorbell rings. */
class EngineAtWork {
  readonly device;
  private readonly target;

  constructor(set: ProductStage) {
    this.device = set.world.device('borrower');
    this.target = set.world.pciFunction('lender');
    const bar = this.target.bars[0]!.address;
    const chain = Buffer.alloc(8);
    chain.writeBigUInt64LE(BigInt(bar + CHAIN));
    set.prepare([...OPEN, ON]);
    for (let i = 0; i < DESCRIPTORS; i++) {
      const next = bar + CHAIN + BYTES * (i + 1);
      const fields = { size: 8, src_addr: bar + 8 * i, dst_addr: bar + 8 * (i + 1), next };
      set.prepare([write('lender', CHAIN + BYTES * i, ioat_dma_descriptor.encode(fields))]);
    }
    set.prepare([write('borrower', IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAINADDR_OFFSET, chain)]);
  }

  /** Goes to `state` and back, as the device's user does. */
  *rest(state: number): Task {
    const migration = this.device.migration!;
    yield* migration.setState(state);
    yield* this.look();
    yield* migration.setState(VFIO_DEVICE_STATE_RUNNING);
  }

  /** Resets the device. Nothing may access its memory afterwards. */
  *reset(): Task {
    yield* this.device.reset();
    yield* this.look();
  }

  /**
   * Changes the memory that the engine reaches, which is only safe while the engine is at rest. A later access by the
   * engine, in any order, is a race.
   */
  private *look(): Task {
    yield* this.target.memoryDecode.store(true);
  }

  /** At the end the channel has finished its chain, however long it was held up, or is halted if it was reset. */
  check(...allowed: number[]): void {
    const status = new Uint8Array(8);
    this.device.pdev.bars[0]!.target.read(IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANSTS_OFFSET, status);
    const state = status[0] & IOAT_CHANSTS_STATUS;
    if (!allowed.includes(state)) throw new InvariantError('I10', `the engine ends in state ${state}`);
  }
}

function stopped(name: string, summary: string, state: number): ProgramFamily {
  return scenario(name, summary, (set) => {
    const engine = new EngineAtWork(set);
    set.task('driver', [START]);
    set.rawTask('migrator', engine.rest(state));
    set.check(() => engine.check(IOAT_CHANSTS_DONE));
  });
}

export const AT_REST: readonly ProgramFamily[] = [
  stopped(
    'p2p-vs-engine',
    'an engine that works is kept from starting DMA, and goes on',
    VFIO_DEVICE_STATE_RUNNING_P2P,
  ),
  stopped('stop-vs-engine', 'a migration stops an engine that works, and lets it go on', VFIO_DEVICE_STATE_STOP),
  stopped('stop-copy-vs-engine', 'the state of an engine that works is about to be read', VFIO_DEVICE_STATE_STOP_COPY),
  scenario('reset-of-engine', 'an engine that works is reset', (set) => {
    const engine = new EngineAtWork(set);
    set.task('driver', [START]);
    set.rawTask('resetter', engine.reset());
    // A doorbell that rings after the reset finds a chain address of 0, where the engine reaches no memory.
    set.check(() => engine.check(IOAT_CHANSTS_HALTED));
  }),
  scenario('stop-vs-reset', 'a migration stops an engine while another thread resets the device', (set) => {
    const engine = new EngineAtWork(set);
    set.prepare([START]);
    set.rawTask('migrator', engine.device.migration!.setState(VFIO_DEVICE_STATE_STOP));
    set.rawTask('resetter', engine.device.reset());
    set.check(() => engine.check(IOAT_CHANSTS_HALTED));
  }),
];
