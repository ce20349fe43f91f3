/**
 * `barter/client`: a client for any vfio-user server, and importers of the buffers that Barter's servers lend.
 *
 * @module barter/client
 */
export { Errno, type ErrnoName } from '../abi/errno.ts';
export type { DmaResvUsage } from '../dma-buf/resv.ts';
export { createEventfd, readEventfd, signalEventfd } from '../linux/eventfd.ts';
export type { OwnedFd } from '../linux/fd.ts';
export { Mapping, type MapRequest } from '../linux/mapping.ts';
export { createMemfd } from '../linux/memfd.ts';
export { SharedMemory } from '../linux/shared-memory.ts';
export type { DependentDevice } from '../vfio/reset.ts';
export type { AsyncClientOptions, CallOptions } from '../vfio-user/client/async-channel.ts';
export {
  AsyncVfioUserClient,
  type DmaMapOptions,
  type IrqName,
  whenReadable,
} from '../vfio-user/client/async-client.ts';
export type { ClientOptions } from '../vfio-user/client/channel.ts';
export { VfioUserClient } from '../vfio-user/client/client.ts';
export type { ClientDeviceInfo, ClientIrqInfo } from '../vfio-user/client/device-info.ts';
export type { ClientDmaMemory } from '../vfio-user/client/dma-answer.ts';
export { dirtyPages, startDmaLogging, stopDmaLogging } from '../vfio-user/client/dma-logging.ts';
export type { Iova } from '../vfio-user/client/dma-maps.ts';
export { type Answer, type Exchange, type Peer, RefusedError, type Request } from '../vfio-user/client/exchange.ts';
export { getFeature, hasFeature, setFeature } from '../vfio-user/client/feature.ts';
export type { SubRegion } from '../vfio-user/client/io-fds.ts';
export { LostError } from '../vfio-user/client/lost.ts';
export {
  migrationBytes,
  migrationFlags,
  migrationState,
  setMigrationState,
  writeMigrationData,
} from '../vfio-user/client/migration.ts';
export type { ClientRegionInfo, MappableArea, RegionMap } from '../vfio-user/client/region-info.ts';
export type { WhileWaiting } from '../vfio-user/client/stream.ts';
export type { RegionWrite } from '../vfio-user/client/write-multi.ts';
export { BlockingImporter } from '../vfio-user/dma-buf/blocking-importer.ts';
export {
  type BufferInfo,
  DmaBufImporter,
  type FileSlice,
  type ImporterEvents,
  type RemoteRanges,
} from '../vfio-user/dma-buf/importer.ts';
export type { Capabilities, MigrationCapability } from '../vfio-user/wire/version.ts';
