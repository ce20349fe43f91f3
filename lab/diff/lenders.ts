/** The devices that lend in a comparison: Barter's own through vfio-user, and two of QEMU's. */

import { packageFile } from '../../src/linux/package-file.ts';
import { guestAddress } from '../host/guest.ts';
import type { LabKernel } from '../kernel/kernel.ts';

/** The operations that a program may do on a device. The registers behind igb's BARs are not memory. */
export interface DeviceTraits {
  name: string;
  /** The device's address in the guest. */
  address: string;
  /** A BAR that can be lent, its size, and whether its bytes are plain memory. */
  region: number;
  regionBytes: number;
  isMemory: boolean;
  /**
   * For a virtual function: its physical function, and the token that opens it after the program has set that token.
   */
  vf?: { physfn: string; token: string };
}

export interface LenderSetup {
  name: string;
  /** QEMU's devices, each below its own root port. Null stands for the served device of that name. */
  qemu: Readonly<Record<string, string | null>>;
  extra: readonly string[];
  /** Words for the guest's kernel command line. By default the IOMMU translates. */
  iommu?: string;
  /** Modules that the guest loads, of those that its kernel has. */
  modules?: readonly string[];
  /** Shell commands that run in the guest after the devices are bound. */
  setup?: string;
  /** The machine file whose scenarios (facts, findings) run here. */
  machine?: string;
  /** The devices that are bound to vfio-pci and lend, in the order of the engine's machine. */
  devices: readonly DeviceTraits[];
  /** The guest's address of the device that only borrows. */
  borrower: string;
  /** Whether programs use I/O address spaces and open devices by their own nodes. The kernel must have iommufd. */
  ioas?: boolean;
}

export const LAB_MACHINE = packageFile('lab/diff/machine.yaml');
const SRIOV_MACHINE = packageFile('lab/diff/sriov.yaml');

/** The kernel's own module for errors of PCI Express. The lab's kernels lack it. */
const AER_INJECT = 'aer_inject';

const MIB = 1 << 20;
const own: DeviceTraits = {
  name: 'lender',
  address: guestAddress(0),
  region: 0,
  regionBytes: 64 * MIB,
  isMemory: true,
};
const conventional: DeviceTraits = {
  name: 'second',
  address: guestAddress(1),
  region: 2,
  regionBytes: MIB,
  isMemory: true,
};
const sharedMemory = (id: string) => ['-object', `memory-backend-memfd,id=${id},size=64M,share=on`];

const LENDERS: readonly LenderSetup[] = [
  {
    name: 'barter',
    qemu: { lender: null, second: null, borrower: null },
    extra: [],
    machine: LAB_MACHINE,
    devices: [own, conventional],
    borrower: guestAddress(2),
  },
  {
    name: 'igb',
    qemu: { lender: 'igb,romfile=', second: null, borrower: null },
    extra: [],
    modules: [AER_INJECT],
    // The virtual function is 0x80 after the physical one.
    setup: [
      'set -e',
      'echo 1 > /sys/module/vfio_pci/parameters/enable_sriov',
      `echo 1 > /sys/bus/pci/devices/${guestAddress(0)}/sriov_numvfs`,
    ].join('\n'),
    machine: SRIOV_MACHINE,
    devices: [
      { ...own, regionBytes: MIB / 8, isMemory: false },
      conventional,
      {
        name: 'vf',
        address: '0000:01:10.0',
        region: 0,
        regionBytes: MIB / 64,
        isMemory: false,
        vf: { physfn: 'lender', token: 'a5'.repeat(16) },
      },
    ],
    borrower: guestAddress(2),
  },
  {
    // Two functions of one slot and group, which are reset together.
    name: 'ivshmem',
    qemu: { lender: 'ivshmem-plain,memdev=memory0,addr=0.0,multifunction=on', borrower: null },
    extra: [
      ...sharedMemory('memory0'),
      ...sharedMemory('memory1'),
      ...['-device', 'ivshmem-plain,memdev=memory1,bus=port0,addr=0.1'],
    ],
    devices: [
      { ...own, region: 2 },
      { ...own, name: 'second', address: '0000:01:00.1', region: 2 },
    ],
    borrower: guestAddress(1),
  },
  {
    name: 'passthrough',
    qemu: { lender: null, second: null, borrower: null },
    extra: [],
    iommu: 'iommu=pt',
    devices: [own, conventional],
    borrower: guestAddress(2),
  },
  {
    name: 'iommufd',
    qemu: { lender: null, second: null, borrower: null },
    extra: [],
    machine: LAB_MACHINE,
    devices: [own, conventional],
    borrower: guestAddress(2),
    ioas: true,
  },
];

/** The lenders for a kernel. Address spaces need iommufd, which the distribution's kernel does not have. */
export function lendersOf({ hasIommufd }: Pick<LabKernel, 'hasIommufd'>): LenderSetup[] {
  return LENDERS.filter(({ ioas }) => ioas !== true || hasIommufd);
}

/** Whether errors of PCI Express can be injected into a lender's devices in a kernel. */
export function canInjectErrors({ modules = [] }: LenderSetup, kernel: Pick<LabKernel, 'base'>): boolean {
  return modules.includes(AER_INJECT) && kernel.base === 'distribution';
}
