/**
 * Virtio devices in general: feature bits and the device status (linux/virtio_config.h, linux/virtio_ring.h,
 * linux/virtio_ids.h), and split virtqueues (virtio 1.3, 2.7). Feature bits are numbers of bits.
 */
import { struct, u16, u32, u64 } from './layout.ts';

export const PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1af4; // linux/pci_ids.h
/** Added to the type of a device that has no legacy interface (virtio 1.3, 4.1.2.1). */
export const VIRTIO_PCI_MODERN_DEVICE_ID = 0x1040;

export const VIRTIO_ID_GPU = 16;

export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER = 2;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40; // the device found an error that it cannot recover from
export const VIRTIO_CONFIG_S_FAILED = 0x80; // the driver gave up

export const VIRTIO_RING_F_INDIRECT_DESC = 28;
export const VIRTIO_RING_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33; // DMA goes through the platform's IOMMU

export const VRING_DESC_F_NEXT = 1;
export const VRING_DESC_F_WRITE = 2; // the device writes; else it reads
export const VRING_DESC_F_INDIRECT = 4; // the buffer holds a table of descriptors
export const VRING_AVAIL_F_NO_INTERRUPT = 1;
export const VRING_USED_F_NO_NOTIFY = 1;

export const vring_desc = struct('vring_desc', 16, {
  addr: u64(0),
  len: u32(8),
  flags: u16(12),
  next: u16(14),
});

/** The ring of heads, 16 bits each, starts at its `sizeof`; after the ring is used_event. */
export const vring_avail = struct('vring_avail', 4, {
  flags: u16(0),
  idx: u16(2),
});

export const vring_used_elem = struct('vring_used_elem', 8, {
  id: u32(0),
  len: u32(4),
});
/** vring_used: flags and idx as in `vring_avail`, then the ring of `vring_used_elem`, then avail_event. */
export const VRING_USED_RING_OFFSET = 4;
