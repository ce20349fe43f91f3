/** The devices that lend in a comparison: Barter's own through vfio-user, and two of QEMU's. */
import { fileURLToPath } from 'node:url';
import type { LenderTraits } from './program.ts';

export interface Lender {
  name: string;
  /** The machine whose lender and borrower QEMU attaches over vfio-user; null for a device of QEMU's. */
  machine: string | null;
  /** QEMU's device, where it is QEMU's. */
  device: string | null;
  extra: readonly string[];
  traits: LenderTraits;
}

export const APART = fileURLToPath(new URL('../../examples/apart.yaml', import.meta.url));

export const LENDERS: readonly Lender[] = [
  {
    name: 'barter',
    machine: APART,
    device: null,
    extra: [],
    traits: { region: 0, regionBytes: 64 << 20, isMemory: true, hotReset: false },
  },
  {
    name: 'igb',
    machine: null,
    device: 'igb,romfile=',
    extra: [],
    traits: { region: 0, regionBytes: 128 << 10, isMemory: false, hotReset: false },
  },
  {
    name: 'ivshmem',
    machine: null,
    device: 'ivshmem-plain,memdev=shared',
    extra: ['-object', 'memory-backend-memfd,id=shared,size=64M,share=on'],
    traits: { region: 2, regionBytes: 64 << 20, isMemory: true, hotReset: true },
  },
];
