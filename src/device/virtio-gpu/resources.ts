/** The resources of a virtio GPU, within limits on the memory that they take here. */
import {
  VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID,
  VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY,
  VIRTIO_GPU_RESP_ERR_UNSPEC,
} from '../../abi/virtio_gpu.ts';
import type { Backing } from './backing.ts';
import { GpuError, invalid } from './errors.ts';
import { isFormat, PIXEL_BYTES } from './formats.ts';

/** A driver may make the device hold this many bytes of pixels, and this many entries of backings. */
const MAX_PIXEL_BYTES = 256 * 2 ** 20;
const MAX_ENTRIES = 2 ** 20;
/** An entry stands for each resource itself, so that empty ones count too. */
const ENTRIES_OF_A_RESOURCE = 1;
export const MAX_DIMENSION = 8192;

/** Pixels in the device's own memory. The driver copies its own memory there. */
export interface PixelResource {
  readonly kind: '2d';
  readonly format: number;
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
  backing: Backing | null;
}

/** Bytes in the guest's memory alone. Each use reads them anew. */
export interface BlobResource {
  readonly kind: 'blob';
  readonly sizeBytes: number;
  backing: Backing | null;
}

export type Resource = PixelResource | BlobResource;

/** The memory behind a resource. UNSPEC where the driver has attached none. */
export function backingOf({ backing }: Resource): Backing {
  if (backing === null) throw new GpuError(VIRTIO_GPU_RESP_ERR_UNSPEC, 'the resource has no memory');
  return backing;
}

export class Resources {
  private readonly byId = new Map<number, Resource>();
  private pixelBytes = 0;
  private entries = 0;

  get size(): number {
    return this.byId.size;
  }

  /** INVALID_RESOURCE_ID for an unknown resource. */
  get(id: number): Resource {
    const resource = this.byId.get(id);
    if (resource === undefined) throw new GpuError(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, `resource ${id}`);
    return resource;
  }

  createPixels(id: number, format: number, width: number, height: number): void {
    this.checkNew(id);
    if (!isFormat(format) || !isSize(width) || !isSize(height)) {
      throw invalid(`${width}x${height} pixels of format ${format}`);
    }
    const sizeBytes = width * height * PIXEL_BYTES;
    if (this.pixelBytes + sizeBytes > MAX_PIXEL_BYTES) {
      throw new GpuError(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `${MAX_PIXEL_BYTES} bytes of pixels at most`);
    }
    this.takeEntries(ENTRIES_OF_A_RESOURCE);
    this.pixelBytes += sizeBytes;
    this.byId.set(id, { kind: '2d', format, width, height, pixels: new Uint8Array(sizeBytes), backing: null });
  }

  createBlob(id: number, sizeBytes: number, backing: Backing | null): void {
    this.checkNew(id);
    this.takeEntries(ENTRIES_OF_A_RESOURCE + (backing?.count ?? 0));
    this.byId.set(id, { kind: 'blob', sizeBytes, backing });
  }

  /** INVALID_PARAMETER for a resource that has a backing. */
  attach(id: number, backing: Backing): void {
    const resource = this.get(id);
    if (resource.backing !== null) throw invalid(`resource ${id} has a backing`);
    this.takeEntries(backing.count);
    resource.backing = backing;
  }

  /** Drops the backing, if there is one. */
  detach(id: number): void {
    const resource = this.get(id);
    this.entries -= resource.backing?.count ?? 0;
    resource.backing = null;
  }

  remove(id: number): void {
    this.detach(id);
    const resource = this.get(id);
    if (resource.kind === '2d') this.pixelBytes -= resource.pixels.length;
    this.entries -= ENTRIES_OF_A_RESOURCE;
    this.byId.delete(id);
  }

  clear(): void {
    this.byId.clear();
    this.pixelBytes = 0;
    this.entries = 0;
  }

  private checkNew(id: number): void {
    if (id === 0 || this.byId.has(id)) {
      throw new GpuError(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID, `resource ${id} cannot be made`);
    }
  }

  private takeEntries(count: number): void {
    if (this.entries + count > MAX_ENTRIES) {
      throw new GpuError(VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY, `${MAX_ENTRIES} entries of memory at most`);
    }
    this.entries += count;
  }
}

function isSize(pixels: number): boolean {
  return pixels > 0 && pixels <= MAX_DIMENSION;
}
