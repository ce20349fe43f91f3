/** The modern PCI transport of virtio (linux/virtio_pci.h; virtio 1.3, 4.1). */
import { bytes, struct, u8, u16, u32 } from './layout.ts';

/** Kinds of vendor capabilities, each of which places a structure in a BAR. */
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;

export const VIRTIO_PCI_ISR_QUEUE = 0x1; // virtio 1.3, 4.1.4.5
export const VIRTIO_PCI_ISR_CONFIG = 0x2;
export const VIRTIO_MSI_NO_VECTOR = 0xffff;

export const virtio_pci_cap = struct('virtio_pci_cap', 16, {
  cap_vndr: u8(0),
  cap_next: u8(1),
  cap_len: u8(2),
  cfg_type: u8(3),
  bar: u8(4),
  id: u8(5),
  padding: bytes(6, 2),
  offset: u32(8),
  length: u32(12),
});

export const virtio_pci_notify_cap = struct('virtio_pci_notify_cap', 20, {
  cap: bytes(0, 16),
  notify_off_multiplier: u32(16), // bytes between the doorbells of queues
});

export const virtio_pci_cfg_cap = struct('virtio_pci_cfg_cap', 20, {
  cap: bytes(0, 16),
  pci_cfg_data: bytes(16, 4),
});

export const virtio_pci_common_cfg = struct('virtio_pci_common_cfg', 56, {
  device_feature_select: u32(0),
  device_feature: u32(4),
  guest_feature_select: u32(8),
  guest_feature: u32(12),
  msix_config: u16(16),
  num_queues: u16(18),
  device_status: u8(20),
  config_generation: u8(21),
  queue_select: u16(22),
  queue_size: u16(24),
  queue_msix_vector: u16(26),
  queue_enable: u16(28),
  queue_notify_off: u16(30),
  queue_desc_lo: u32(32),
  queue_desc_hi: u32(36),
  queue_avail_lo: u32(40),
  queue_avail_hi: u32(44),
  queue_used_lo: u32(48),
  queue_used_hi: u32(52),
});
