/**
 * `barter/machine`: machines from files, their devices under vfio-pci, and the buffers that they lend, all in process
 * (docs/architecture.md).
 *
 * @module barter/machine
 */
export { Errno, type ErrnoName } from '../abi/errno.ts';
export {
  DMA_BIDIRECTIONAL,
  DMA_TO_DEVICE,
  DmaBuf,
  type DmaBufAttachment,
  type DmaBufAttachOps,
  type DmaBufExportInfo,
  type DmaBufOps,
  type DmaDirection,
  type MmapArea,
  type PciTph,
  type UserMapping,
} from '../dma-buf/dma-buf.ts';
export { DmaFence } from '../dma-buf/fence.ts';
export { FdTable, File } from '../dma-buf/file.ts';
export type { MappedIova, PhysVec, SgSegment, SgTable } from '../dma-buf/scatterlist.ts';
export type { FdKind, FdNote } from '../linux/fd-note.ts';
export { buildMachine, type Machine } from '../machine/build.ts';
export {
  type BarView,
  type CapabilityView,
  type DeviceView,
  inspectMachine,
  type MachineView,
  type PeerView,
} from '../machine/inspect.ts';
export { loadMachine, parseMachine } from '../machine/load.ts';
export type { DeviceDescription, MachineDescription } from '../machine/schema.ts';
export type { DeviceSockets } from '../machine/serve-worker.ts';
export { type ServedMachine, type ServeOptions, serveMachine, type WatchOptions } from '../machine/served.ts';
export { DocumentError } from '../machine/yaml.ts';
export type { ResetMethod } from '../pci/reset.ts';
export { VfioPciCoreDevice, type VfioPciCoreOptions } from '../vfio/core.ts';
export type { ZappedMapping } from '../vfio/dmabuf.ts';
export { type DmaArea, type ExportingDevice, exportAreas, exportSlice } from '../vfio/dmabuf-export.ts';
export { buildVfioDevices } from '../vfio/driver.ts';
export type { PowerWrittenOutside } from '../vfio/outside.ts';
export type { PowerWrite } from '../vfio/pm.ts';
export { PROFILES, type Profile, type ProfileName, type Proposed } from '../vfio/profile.ts';
export { BufferMemory, type Caller, type EventSignal, type EventSource, type UserMemory } from '../vfio/user.ts';
export type { Log, LogAbout, LogLevel } from '../vfio-user/wire/log.ts';
export type { SocketKind, TappedMessage } from '../vfio-user/wire/tap.ts';
export type {
  AttachmentMapping,
  AttachOptions,
  BufferAttachment,
  ExportedBuffer,
  InvalidateEvent,
} from './async/buffer.ts';
export type { AccessSize, ExportOptions, RegionShape, SliceOfRegion, UserDevice } from './async/device.ts';
export {
  connectDevices,
  type OpenMachine,
  type OpenMachineOptions,
  openLinuxDevices,
  openMachine,
} from './async/open-machine.ts';
