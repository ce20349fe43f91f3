/** `barter/client`: a client for any vfio-user server, and importers of the buffers that Barter's servers lend. */
export { Errno, type ErrnoName } from '../abi/errno.ts';
export { createEventfd, readEventfd, signalEventfd } from '../linux/eventfd.ts';
export type { OwnedFd } from '../linux/fd.ts';
export { Mapping, type MapRequest } from '../linux/mapping.ts';
export { createMemfd } from '../linux/memfd.ts';
export type { ClientDmaMemory, ClientOptions } from '../vfio-user/client/channel.ts';
export { type ClientRegionInfo, type RegionWrite, VfioUserClient } from '../vfio-user/client/client.ts';
export { BlockingImporter } from '../vfio-user/dma-buf/blocking-importer.ts';
export {
  type BufferInfo,
  DmaBufImporter,
  type ImporterEvents,
  type RemoteRanges,
} from '../vfio-user/dma-buf/importer.ts';
