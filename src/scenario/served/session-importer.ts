/** An importer of a scenario that is another process to the exporter: a session with it (docs/dma-buf-socket.md). */
import { Errno } from '../../abi/errno.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { BlockingImporter } from '../../vfio-user/dma-buf/blocking-importer.ts';
import type { EventLoop } from '../../vfio-user/wire/event-loop.ts';

export class SessionImporter {
  private readonly client: BlockingImporter;
  private readonly attachment: number;
  /** The exporter's ids of what is mapped, by the scenario's names. */
  private readonly mappings = new Map<string, number>();
  private callbacks: number[] = [];

  /** Opens the session and attaches. The exporter is answered while `loop` turns. */
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
    // Nobody looks at the bytes.
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

  /** Since the last call: for each time that the exporter took the buffer or gave it back, how much was mapped. */
  takeCallbacks(): number[] {
    const taken = this.callbacks;
    this.callbacks = [];
    return taken;
  }

  private told(): void {
    this.callbacks.push(this.mappings.size);
    // The answer to INVALIDATE gives them back.
    this.mappings.clear();
  }
}
