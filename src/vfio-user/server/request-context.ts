/** The part of the session that request handlers may use. */
import type { Memory } from '../../pci/memory.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import type { ClientFiles, Exports } from '../dma-buf/exports.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import type { Frame } from '../wire/frame.ts';
import type { Capabilities } from '../wire/version.ts';
import type { DmaRegions } from './dma-regions.ts';
import type { IoFds } from './io-fds.ts';
import type { Reply } from './reply.ts';

export interface RequestContext {
  readonly vdev: VfioPciCoreDevice;
  readonly loop: EventLoop;
  readonly files: ClientFiles;
  readonly exports: Exports;
  readonly regions: DmaRegions;
  /** The capabilities that VERSION agreed on. */
  readonly capabilities: Capabilities;
  readonly ioFds: IoFds;
  /** Whether the device is free, or its client is in this session's process. */
  mayReset(device: VfioPciCoreDevice): boolean;
  /** Records that the client gets the descriptor of a BAR's memory. It may map it until its session ends. */
  share(memory: Memory): void;
  /** Fails the device's DMA that waits for the client, because the device is about to be reset. */
  abortDma(): void;
}

/** Serves a command. Throws the Errno that the error reply carries. */
export type RequestHandler = (context: RequestContext, frame: Frame, reply: Reply) => Task;
