/**
 * `barter/client`: a client for any vfio-user server, and importers of the buffers that Barter's servers lend.
 *
 * @module barter/client
 */
export { Errno, type ErrnoName } from '../abi/errno.ts';
export { createEventfd, readEventfd, signalEventfd } from '../linux/eventfd.ts';
export type { OwnedFd } from '../linux/fd.ts';
export { Mapping, type MapRequest } from '../linux/mapping.ts';
export { createMemfd } from '../linux/memfd.ts';
export type { ClientOptions } from '../vfio-user/client/channel.ts';
export { VfioUserClient } from '../vfio-user/client/client.ts';
export type { ClientDmaMemory } from '../vfio-user/client/dma-answer.ts';
export type { ClientRegionInfo } from '../vfio-user/client/region-info.ts';
export type { RegionWrite } from '../vfio-user/client/write-multi.ts';
export { BlockingImporter } from '../vfio-user/dma-buf/blocking-importer.ts';
export {
  type BufferInfo,
  DmaBufImporter,
  type ImporterEvents,
  type RemoteRanges,
} from '../vfio-user/dma-buf/importer.ts';
