/** Lent buffers, and the importers that attach to them, as promises. */
import type { Operations } from './operations.ts';

/** The event of an importer when its exporter revokes the buffer or restores it. */
export interface InvalidateEvent {
  /** The number of this attachment's live mappings that ended. 0 after a restore. */
  readonly mappings: number;
}

/** Options of `ExportedBuffer.attach`. */
export interface AttachOptions {
  /**
   * Called for every call of the importer's invalidate callback: one for each revoke, and one for each restore. The
   * mappings have ended by then. The promise of the operation that caused it resolves afterwards.
   */
  onInvalidate?: (event: InvalidateEvent) => void;
  /**
   * `unmap` (the default): the importer's driver unmaps in its callback, as dma-buf demands. `keep`: it does not, so a
   * revoke waits until `unmap` is called. In process only.
   */
  onRevoke?: 'unmap' | 'keep';
}

/** A dma-buf that a device lends, as a descriptor: `VFIO_DEVICE_FEATURE_DMA_BUF`. */
export class ExportedBuffer {
  /** The sum of the exported ranges, in bytes. */
  readonly sizeBytes: number;
  private readonly operations: Operations;
  private readonly fd: string;

  /** @internal Made by `UserDevice.exportDmaBuf`. */
  constructor(operations: Operations, fd: string, sizeBytes: number) {
    this.operations = operations;
    this.fd = fd;
    this.sizeBytes = sizeBytes;
    operations.track(this);
  }

  /**
   * Attaches a dynamic importer for the device of that name. Errors: ENODEV while the buffer is revoked; EOPNOTSUPP if
   * the device cannot reach the lender peer to peer.
   */
  async attach(device: string, options: AttachOptions = {}): Promise<BufferAttachment> {
    const { operations, fd } = this;
    const as = operations.newName('attachment');
    const kept = options.onRevoke === 'keep' ? ({ onInvalidate: 'keep' } as const) : {};
    await operations.perform({ op: 'attach', fd, device, as, ...kept });
    return new BufferAttachment(operations, as, device, options.onInvalidate);
  }

  /** Closes the descriptor. The buffer lives on while an attachment holds it. */
  async close(): Promise<void> {
    this.operations.forget(this);
    await this.operations.perform({ op: 'close-fd', fd: this.fd });
  }

  /** Names the buffer in the report of what was not released. */
  describe(): string {
    return `a dma-buf of ${this.sizeBytes} bytes`;
  }

  /** As `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** An importer of a buffer: `dma_buf_dynamic_attach`. */
export class BufferAttachment {
  /** The name of the borrowing device. */
  readonly device: string;
  private readonly operations: Operations;
  private readonly name: string;
  private readonly endWatch: () => void;
  private readonly mappings = new Set<AttachmentMapping>();

  /** @internal Made by `ExportedBuffer.attach`. */
  constructor(
    operations: Operations,
    name: string,
    device: string,
    onInvalidate: ((event: InvalidateEvent) => void) | undefined,
  ) {
    this.operations = operations;
    this.name = name;
    this.device = device;
    operations.track(this);
    this.endWatch = onInvalidate === undefined ? () => {} : operations.watch(() => this.tell(onInvalidate));
  }

  /** Maps the buffer for the device: `dma_buf_map_attachment`. Errors: ENODEV while the buffer is revoked. */
  async map(): Promise<AttachmentMapping> {
    const as = this.operations.newName('mapping');
    const lengths = (await this.operations.perform({ op: 'map', importer: this.name, as })) as number[];
    const mapping = new AttachmentMapping(this.operations, as, lengths, () => this.mappings.delete(mapping));
    this.mappings.add(mapping);
    return mapping;
  }

  /** Unmaps all mappings, and detaches. */
  async detach(): Promise<void> {
    this.endWatch();
    this.operations.forget(this);
    for (const mapping of [...this.mappings]) mapping.end();
    await this.operations.perform({ op: 'detach', importer: this.name });
  }

  /** Names the attachment in the report of what was not released. */
  describe(): string {
    return `an attachment of ${this.device}`;
  }

  /** As `detach`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.detach();
  }

  private tell(onInvalidate: (event: InvalidateEvent) => void): void {
    const calls = this.operations.performNow({ op: 'callbacks', importer: this.name }) as number[];
    for (const mappings of calls) {
      if (mappings > 0) for (const mapping of [...this.mappings]) mapping.end();
      onInvalidate({ mappings });
    }
  }
}

/** A mapping of a buffer into a device's address space. It ends by `unmap`, or when the exporter revokes the buffer. */
export class AttachmentMapping {
  /** Bytes of each segment that the device sees, in order. */
  readonly segmentBytes: readonly number[];
  private readonly operations: Operations;
  private readonly name: string;
  private readonly onEnd: () => void;

  /** @internal Made by `BufferAttachment.map`. */
  constructor(operations: Operations, name: string, segmentBytes: readonly number[], onEnd: () => void) {
    this.operations = operations;
    this.name = name;
    this.segmentBytes = segmentBytes;
    this.onEnd = onEnd;
    operations.track(this);
  }

  /** The device writes `bytes` into the buffer by DMA. EIO if the bus refuses. Returns the number of bytes written. */
  async write(offset: number, bytes: Uint8Array): Promise<number> {
    const hex = Buffer.from(bytes).toString('hex');
    return (await this.operations.perform({ op: 'dma-write', map: this.name, offset, bytes: hex })) as number;
  }

  /** The device reads the buffer by DMA. EIO if the bus refuses. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const hex = (await this.operations.perform({ op: 'dma-read', map: this.name, offset, length })) as string;
    return Buffer.from(hex, 'hex');
  }

  /** EINVAL if the exporter has already revoked it. */
  async unmap(): Promise<void> {
    this.end();
    await this.operations.perform({ op: 'unmap', map: this.name });
  }

  /** Names the mapping in the report of what was not released. */
  describe(): string {
    return `a mapping of ${this.segmentBytes.reduce((sum, length) => sum + length, 0)} bytes`;
  }

  /** @internal The exporter has revoked it, or the importer has detached. */
  end(): void {
    this.operations.forget(this);
    this.onEnd();
  }

  /** Unlike `unmap`, this succeeds if the exporter has already revoked it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.end();
    await this.unmap().catch((error: { code?: string }) => {
      if (error.code !== 'EINVAL' && error.code !== 'EBADF') throw error;
    });
  }
}
