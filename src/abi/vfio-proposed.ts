/**
 * Features of VFIO_DEVICE_FEATURE that are proposed on the kvm list, but not merged. The drafts give all of them number
 * 13, which Linux 7.3 took for another feature, so the numbers are in the profile (src/vfio/profile.ts).
 */
import { s32, struct, u8, u16, u32 } from './layout.ts';

/**
 * VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, SET: takes one buffer back for good. Matt Evans, "vfio/pci: Permanently revoke a
 * DMABUF on request", v3, <20260610154327.37758-9>.
 */
export const vfio_device_feature_dma_buf_revoke = struct('vfio_device_feature_dma_buf_revoke', 4, {
  dmabuf_fd: s32(0),
});

/**
 * VFIO_DEVICE_FEATURE_DMA_BUF_TPH, SET: the hints that an importer puts into its writes to the buffer. Zhiping Zhang,
 * "vfio/pci: implement get_pci_tph and DMA_BUF_TPH feature", v11, <20260702181025.2694961-4>.
 */
export const vfio_device_feature_dma_buf_tph = struct('vfio_device_feature_dma_buf_tph', 12, {
  dmabuf_fd: s32(0),
  flags: u32(4),
  steering_tag_ext: u16(8),
  steering_tag: u8(10),
  ph: u8(11),
});
export const VFIO_DMA_BUF_TPH_ST = 1 << 0;
export const VFIO_DMA_BUF_TPH_ST_EXT = 1 << 1;
