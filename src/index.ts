/** What a program that depends on Barter imports. */
export { Errno, type ErrnoName } from './abi/errno.ts';
export type { DeviceModel } from './device/model.ts';
export { msixMemory } from './device/msix.ts';
export {
  DMA_BIDIRECTIONAL,
  DMA_TO_DEVICE,
  DmaBuf,
  type DmaBufAttachment,
  type DmaBufAttachOps,
  type DmaBufOps,
} from './dma-buf/dma-buf.ts';
export { DmaFence } from './dma-buf/fence.ts';
export { FdTable, File } from './dma-buf/file.ts';
export { type ExploreOptions, type ExploreResult, exploreProgram, type FoundBug } from './explore/explore.ts';
export type { Program, Stage } from './explore/world/program.ts';
export { show } from './explore/world/schedule.ts';
export { buildMachine } from './machine/build.ts';
export { loadMachine } from './machine/load.ts';
export { type ServedDevices, serveDevices } from './machine/serve-devices.ts';
export { Bar, type BarTarget, MemoryTarget } from './pci/bar.ts';
export type { PciFunction } from './pci/function.ts';
export { ArrayMemory } from './pci/memory.ts';
export { htmlTimeline } from './report/html.ts';
export { textTimeline } from './report/timeline.ts';
export { Cell } from './task/cell.ts';
export { Completion } from './task/completion.ts';
export { InvariantError, Lifetime } from './task/lifetime.ts';
export { type LockClass, Mutex, RwSemaphore } from './task/lock.ts';
export type { Task } from './task/op.ts';
export { Plain } from './task/plain.ts';
export { Refcount } from './task/refcount.ts';
export { Runner, runner, spawn, spawnBeside } from './task/runner.ts';
export { WaitQueue } from './task/wait-queue.ts';
export { explore } from './verify/explore.ts';
export { VfioPciCoreDevice } from './vfio/core.ts';
export { type DmaArea, exportAreas, exportSlice } from './vfio/dmabuf.ts';
export { buildVfioDevices } from './vfio/driver.ts';
export { PROFILES, type Profile } from './vfio/profile.ts';
export { BufferMemory, type Caller, type EventSignal, type UserMemory } from './vfio/user.ts';
export { BlockingImporter } from './vfio-user/dma-buf/blocking-importer.ts';
export {
  type BufferInfo,
  DmaBufImporter,
  type ImporterEvents,
  type RemoteRanges,
} from './vfio-user/dma-buf/importer.ts';
