/**
 * A virtio GPU without 3D (virtio 1.3, 5.7): screens, 2D resources, blobs of guest memory, cursors. Linux's virtio_gpu
 * drives it. A blob may be a peer's memory that the driver imported: each read of it is a DMA, and a read of memory that
 * was taken back is an error.
 */
import { Errno } from '../../abi/errno.ts';
import { VIRTIO_ID_GPU } from '../../abi/virtio.ts';
import * as abi from '../../abi/virtio_gpu.ts';
import type { CapabilitySpec } from '../../pci/capabilities.ts';
import { Cell } from '../../task/cell.ts';
import { Mutex } from '../../task/lock.ts';
import type { Task } from '../../task/op.ts';
import type { Picture, Screen } from '../screen.ts';
import type { Chain } from '../virtio/chain.ts';
import type { QueueWork, VirtioModel } from '../virtio/model.ts';
import { VirtioPciDevice } from '../virtio/virtio-pci.ts';
import { CONTROL_COMMANDS, CURSOR_COMMANDS, type GpuState } from './commands.ts';
import { drawCursor, hiddenCursor } from './cursor.ts';
import { GpuError } from './errors.ts';
import { PIXEL_BYTES, toRgba } from './formats.ts';
import { GpuRequest, HEADER_BYTES } from './request.ts';
import { Resources } from './resources.ts';
import { readRows, Scanouts } from './scanouts.ts';

export interface GpuOptions {
  /** How many screens; 1 by default. */
  scanouts?: number;
  /** Pixels of each screen; 1024 by 768 by default. */
  width?: number;
  height?: number;
}

const LOCK = { name: 'virtio_gpu.lock' };
/** Display controller, neither VGA nor 3D. */
const CLASS_CODE = 0x038000;
const CURSOR_QUEUE = 1;
const QUEUE_SIZES = [64, 16];
/** The commands that `hold` can name lie from here on. */
const FIRST_COMMAND = abi.VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
const COMMANDS_END = FIRST_COMMAND + 31;

export class VirtioGpu implements VirtioModel, Screen, GpuState {
  readonly type = VIRTIO_ID_GPU;
  readonly classCode = CLASS_CODE;
  readonly features = [abi.VIRTIO_GPU_F_EDID, abi.VIRTIO_GPU_F_RESOURCE_BLOB];
  readonly queueSizes = QUEUE_SIZES;
  readonly resources = new Resources();
  readonly scanouts: Scanouts;
  readonly cursors;
  readonly width: number;
  readonly height: number;
  /** The function's side of the device: give it to a machine. */
  readonly device: VirtioPciDevice;
  /** Held for one command or one picture, so that no read of memory outlasts the command that takes it away. */
  private readonly lock = new Mutex(LOCK);
  /** Bits of commands that wait, counted from FIRST_COMMAND. */
  private readonly held = new Cell('virtio_gpu.held', 0);
  /** Gets the reason of each error response. */
  onError: (command: number, error: GpuError) => void = () => {};

  constructor(capabilities: CapabilitySpec, { scanouts = 1, width = 1024, height = 768 }: GpuOptions = {}) {
    this.width = width;
    this.height = height;
    this.scanouts = new Scanouts(scanouts);
    this.cursors = Array.from({ length: scanouts }, hiddenCursor);
    this.device = new VirtioPciDevice(this, capabilities);
  }

  get screen(): Screen {
    return this;
  }

  get screenCount(): number {
    return this.scanouts.count;
  }

  readConfig(): Uint8Array {
    return abi.virtio_gpu_config.encode({ num_scanouts: this.scanouts.count });
  }

  /** `events_clear` clears events, and there are none: the screens do not change. */
  writeConfig(): void {}

  onReset(): void {
    this.resources.clear();
    this.scanouts.clear();
    for (const cursor of this.cursors) Object.assign(cursor, hiddenCursor());
  }

  *handle(queue: number, chain: Chain, work: QueueWork): Task<number> {
    const request = yield* GpuRequest.read(chain);
    const bit = 1 << (request.type - FIRST_COMMAND);
    if (queue !== CURSOR_QUEUE && isControl(request.type) && ((yield* this.held.load()) & bit) !== 0) {
      yield* work.aside(this.held.waitUntil((bits) => (bits & bit) === 0));
    }
    const response = yield* this.locked(work, () => this.answer(queue, request, work));
    if (chain.writableBytes < HEADER_BYTES) return 0;
    return yield* chain.write(response);
  }

  /** The names are VIRTIO_GPU_CMD_*, of the control queue. */
  *hold(commands: readonly string[]): Task {
    yield* this.held.store(commands.reduce((bits, name) => bits | bitOf(name), 0));
  }

  *picture(id: number): Task<Picture> {
    if (id >= this.scanouts.count) throw new Errno('EINVAL', `there is no screen ${id}: ${this.scanouts.count} in all`);
    const picture = yield* this.device.beside((work) => this.locked(work, () => this.read(id, work)));
    if (picture === null) throw new Errno('ECANCELED', 'the device was reset');
    return picture;
  }

  private *read(id: number, work: QueueWork): Task<Picture> {
    const scanout = this.scanouts.get(id);
    if (scanout === null) throw new Errno('ENODATA', `screen ${id} shows nothing`);
    const { surface, rect } = scanout;
    const { width, height } = rect;
    const pixels = new Uint8Array(width * height * PIXEL_BYTES);
    const keep = (y: number, row: Uint8Array) => {
      const kept = pixels.subarray(y * row.length, (y + 1) * row.length);
      kept.set(row);
      toRgba(kept, surface.format, false);
    };
    try {
      yield* readRows(work, surface, rect, keep);
    } catch (error) {
      if (!(error instanceof GpuError)) throw error;
      throw new Errno('EIO', `screen ${id} cannot be read: ${error.message}`);
    }
    const picture = { width, height, pixels };
    drawCursor(picture, this.cursors[id]);
    return picture;
  }

  private *answer(queue: number, request: GpuRequest, work: QueueWork): Task<Uint8Array> {
    try {
      const command = (queue === CURSOR_QUEUE ? CURSOR_COMMANDS : CONTROL_COMMANDS).get(request.type);
      if (command === undefined) throw new GpuError(abi.VIRTIO_GPU_RESP_ERR_UNSPEC, 'the device has no such command');
      request.checkLength(command.sizeBytes);
      return (yield* command.run(this, request, work)) ?? request.answer(abi.VIRTIO_GPU_RESP_OK_NODATA);
    } catch (error) {
      if (!(error instanceof GpuError)) throw error;
      this.onError(request.type, error);
      return request.answer(error.response);
    }
  }

  /** The lock is inside all others, and its owner waits for its own DMA alone. */
  private *locked<T>(work: QueueWork, body: () => Task<T>): Task<T> {
    yield* this.lock.lock();
    try {
      yield* work.dma.check();
      return yield* body();
    } finally {
      yield* this.lock.unlock();
    }
  }
}

/** EINVAL for a name that is not of a command that can be held. */
function bitOf(name: string): number {
  const types: Readonly<Record<string, unknown>> = abi;
  const type = name.startsWith('VIRTIO_GPU_CMD_') && Object.hasOwn(types, name) ? types[name] : null;
  if (typeof type === 'number' && isControl(type)) return 1 << (type - FIRST_COMMAND);
  throw new Errno('EINVAL', `${name} is not a command of the control queue`);
}

function isControl(type: number): boolean {
  return type >= FIRST_COMMAND && type < COMMANDS_END;
}
