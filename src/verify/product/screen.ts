/** An importer whose device is a virtio GPU: what it shows, and how its driver takes it away, against revokes. */
import { Errno } from '../../abi/errno.ts';
import * as abi from '../../abi/virtio_gpu.ts';
import type { VirtioGpu } from '../../device/virtio-gpu/gpu.ts';
import { QUEUE_BYTES, VirtioGpuDriver } from '../../drivers/virtio-gpu.ts';
import type { ProgramFamily } from '../../explore/world/program.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../pci/dma.ts';
import { ArrayMemory } from '../../pci/memory.ts';
import { enableMsi } from '../../pci/msi.ts';
import type { EngineImporter } from '../../scenario/engine/importer-driver.ts';
import type { Step } from '../../scenario/step.ts';
import { InvariantError } from '../../task/lifetime.ts';
import type { Task } from '../../task/op.ts';
import { ATTACH, EXPORT, MAP, OFF, OPEN, scenario } from './family.ts';
import { SCREEN } from './machines.ts';
import type { ProductStage } from './stage.ts';

const RINGS = 0x10_0000;
const RESOURCE = 1;
const PIXEL: [number, number, number, number] = [0, 0, 1, 1];
const PIXEL_BYTES = 4;
/** Blue, green, red. */
const COLOUR = Uint8Array.of(0x11, 0x22, 0x33, 0);
const RGBA = [0x33, 0x22, 0x11, 0xff];
/** The driver unmaps by itself, once the device has answered. */
const ATTACH_SCREEN: Step = { ...ATTACH, onInvalidate: 'keep' } as Step;

/** The joint work of a GPU's driver and an importer, as Linux's virtio_gpu does it. A mutant replaces `detach`. */
export class ScreenDriver {
  readonly gpu: VirtioGpu;
  private readonly driver: VirtioGpuDriver;
  private readonly importer: EngineImporter;

  /** Sets the device up, and shows a pixel of the lender's BAR. */
  constructor(set: ProductStage) {
    const { world } = set;
    set.prepare([...OPEN, EXPORT, ATTACH_SCREEN, MAP]);
    this.importer = world.importers.get('importer')!;
    this.gpu = world.machine.screens.get('borrower') as VirtioGpu;
    const fn = world.pciFunction('borrower');
    const memory = new ArrayMemory(2 * QUEUE_BYTES);
    fn.iommuDomain!.map(RINGS, memory.sizeBytes, { kind: 'memory', memory, offset: 0 }, IOMMU_READ | IOMMU_WRITE);
    set.prepareTask(() => enableMsi(fn, 'msix'));
    this.driver = set.prepareTask(() => started(fn, memory));
    world.pciFunction('lender').bars[0]!.target.memory!.write(0, COLOUR);
    set.prepareTask(() => this.show());
    this.importer.afterInvalidate = () => this.invalidate();
  }

  private *show(): Task {
    const [mapping] = this.importer.mappings;
    const ranges = [{ address: mapping.table.segments[0].address, length: 4096 }];
    expectOk(yield* this.driver.createBlob(RESOURCE, PIXEL_BYTES, ranges));
    const format = abi.VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
    expectOk(yield* this.driver.setScanoutBlob(0, RESOURCE, format, PIXEL, PIXEL_BYTES));
  }

  /** Called with the reservation held. */
  private *invalidate(): Task {
    if (this.importer.mappings.size === 0) return;
    yield* this.detach();
    for (const mapping of [...this.importer.mappings]) yield* this.importer.unmapLocked(mapping);
  }

  /** Once this has returned the device does not read the buffer any more. */
  *detach(): Task {
    yield* this.sendDetach();
  }

  *sendDetach(): Task {
    expectOk(yield* this.driver.detachBacking(RESOURCE));
  }

  /** The screen shows the bytes of the BAR, or it cannot be read. */
  *look(): Task {
    try {
      const { pixels } = yield* this.gpu.picture(0);
      if (RGBA.some((byte, i) => pixels[i] !== byte)) throw new InvariantError('I9', `the screen shows ${pixels}`);
    } catch (error) {
      if (!(error instanceof Errno) || error.code !== 'EIO') throw error;
    }
  }
}

function* started(fn: ConstructorParameters<typeof VirtioGpuDriver>[0], memory: ArrayMemory): Task<VirtioGpuDriver> {
  return new VirtioGpuDriver(fn, memory, RINGS);
}

function expectOk(response: number): void {
  if (response === abi.VIRTIO_GPU_RESP_OK_NODATA) return;
  throw new InvariantError('I9', `a command of the driver is answered with 0x${response.toString(16)}`);
}

export const SCREENS: readonly ProgramFamily[] = [
  scenario(
    'revoke-vs-screen',
    'memory goes off while a virtio GPU reads it for its screen',
    (set) => {
      const driver = new ScreenDriver(set);
      set.task('revoker', [OFF]);
      set.rawTask('viewer', driver.look());
    },
    { machine: SCREEN },
  ),
];
