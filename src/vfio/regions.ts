/** A device's description of itself: its flags, regions and interrupts (VFIO_DEVICE_GET_INFO and related ioctls). */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
} from '../abi/vfio.ts';
import type { Bar } from '../pci/bar.ts';
import type { PciFunction } from '../pci/function.ts';
import { resetMethods } from '../pci/reset.ts';
import type { MsixTable } from './irqs/msix-table.ts';

/** A device that can be described. */
export interface DescribedDevice {
  readonly pdev: PciFunction;
  readonly interrupts: { readonly msixTable: MsixTable | null };
  isMappable(bar: Bar): boolean;
}

/** Regions are 2^40 bytes apart in the device's file: index << 40. */
const VFIO_PCI_OFFSET_SHIFT = 40;

export interface DeviceInfo {
  flags: number;
  numRegions: number;
  numIrqs: number;
}

export interface RegionInfo {
  index: number;
  flags: number;
  sizeBytes: number;
  /** Where the region starts in the device's file. */
  offset: number;
  /** The MSI-X table lies in this BAR, and may still be mapped (VFIO_REGION_INFO_CAP_MSIX_MAPPABLE). */
  msixMappable: boolean;
}

export function deviceInfo(vdev: DescribedDevice): DeviceInfo {
  const reset = resetMethods(vdev.pdev).length > 0 ? VFIO_DEVICE_FLAGS_RESET : 0;
  return { flags: VFIO_DEVICE_FLAGS_PCI | reset, numRegions: VFIO_PCI_NUM_REGIONS, numIrqs: VFIO_PCI_NUM_IRQS };
}

/** VFIO_DEVICE_GET_REGION_INFO. EINVAL for an index that PCI devices do not have; an absent region has size 0. */
export function regionInfo(vdev: DescribedDevice, index: number): RegionInfo {
  if (index < 0 || index > VFIO_PCI_CONFIG_REGION_INDEX) {
    throw new Errno('EINVAL', `${vdev.pdev.name} has no region ${index}`);
  }
  const offset = index * 2 ** VFIO_PCI_OFFSET_SHIFT;
  const readWrite = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  if (index === VFIO_PCI_CONFIG_REGION_INDEX) {
    return { index, flags: readWrite, sizeBytes: vdev.pdev.config.sizeBytes, offset, msixMappable: false };
  }
  if (index === VFIO_PCI_ROM_REGION_INDEX) {
    const sizeBytes = vdev.pdev.romSizeBytes;
    return { index, flags: sizeBytes > 0 ? VFIO_REGION_INFO_FLAG_READ : 0, sizeBytes, offset, msixMappable: false };
  }
  const bar = vdev.pdev.bars[index] ?? null;
  if (bar === null) return { index, flags: 0, sizeBytes: 0, offset, msixMappable: false };
  const mappable = vdev.isMappable(bar);
  return {
    index,
    flags: readWrite | (mappable ? VFIO_REGION_INFO_FLAG_MMAP : 0),
    sizeBytes: bar.sizeBytes,
    offset,
    msixMappable: mappable && vdev.interrupts.msixTable?.barIndex === index,
  };
}

/** The part of a BAR that holds its MSI-X table, in whole pages: clients that emulate the table leave it unmapped. */
export function msixTablePages(vdev: DescribedDevice): { barIndex: number; offset: number; sizeBytes: number } | null {
  const table = vdev.interrupts.msixTable;
  if (table === null) return null;
  const offset = table.offset - (table.offset % PAGE_SIZE);
  const end = Math.ceil((table.offset + table.sizeBytes) / PAGE_SIZE) * PAGE_SIZE;
  return { barIndex: table.barIndex, offset, sizeBytes: end - offset };
}
