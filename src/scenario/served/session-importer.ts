/**
 * An importer of a scenario in a session with the exporter, which sees it as another process (docs/dma-buf-socket.md).
 */
import { Errno } from '../../abi/errno.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { BlockingImporter } from '../../vfio-user/dma-buf/blocking-importer.ts';
import type { EventLoop } from '../../vfio-user/wire/event-loop.ts';

export class SessionImporter {
  private readonly client: BlockingImporter;
  private readonly attachment: number;
  /** The exporter's ids of the mappings, by the scenario's names. */
  private readonly mappings = new Map<string, number>();
  private callbacks: number[] = [];

  /** Opens the session and attaches. Answers the exporter while `loop` turns. */
  constructor(loop: EventLoop, buffer: OwnedFd) {
    const events = { onInvalidate: () => this.told(), onRestore: () => this.told() };
    this.client = new BlockingImporter(buffer, events, loop);
    try {
      this.attachment = this.client.attach();
    } catch (error) {
      this.client.close();
      throw error;
    }
  }

  /** Returns the lengths of the ranges. */
  map(name: string): number[] {
    const { id, fds, ranges } = this.client.map(this.attachment);
    // The bytes are not needed.
    for (const fd of fds) fd.close();
    this.mappings.set(name, id);
    return ranges.map(({ sizeBytes }) => sizeBytes);
  }

  unmap(name: string): void {
    const id = this.mappings.get(name);
    if (id === undefined) throw new Errno('EBADF', `there is no mapping ${name} any more`);
    this.mappings.delete(name);
    this.client.unmap(id);
  }

  detach(): void {
    this.client.detach(this.attachment);
    this.close();
  }

  close(): void {
    this.client.close();
  }

  /** For each revoke and restore since the last call, the number of mappings at that time. */
  takeCallbacks(): number[] {
    const taken = this.callbacks;
    this.callbacks = [];
    return taken;
  }

  private told(): void {
    this.callbacks.push(this.mappings.size);
    // The answer to INVALIDATE releases the mappings.
    this.mappings.clear();
  }
}
