/**
 * Where Barter is stricter than Linux 7.3, and the switch that makes it behave as Linux does, so that both can be
 * compared step by step. docs/differences.md gives the reason and the test of each field.
 */
export interface Profile {
  readonly name: 'default' | 'linux-7.3';
  /** Refuse open_flags that mean nothing to a dma-buf. Linux accepts any 32 bits. */
  readonly checkOpenFlags: boolean;
  /** Only D0 decodes (PCI PM 1.2, 5.3): D1 and D2 revoke as D3hot does. Linux revokes from D3hot on. */
  readonly revokeInD1D2: boolean;
  /** In low power the memory counts as disabled, whatever COMMAND says. Linux looks at COMMAND and D3hot alone. */
  readonly lowPowerDisablesMemory: boolean;
  /** Waking from low power by an event restores as LOW_POWER_EXIT does. In Linux the buffers stay revoked. */
  readonly wakeRestores: boolean;
  /** A reset of a PF revokes what its VFs lend: they are reset along with it. Linux looks at the PF alone. */
  readonly resetTakesVirtfns: boolean;
  /** Importers are told of a restore after it took effect. Linux tells them before, and a map from there fails. */
  readonly tellAfterRestore: boolean;
  /** Devices migrate (features 1, 2 and 9). Linux's vfio-pci leaves that to drivers of single devices: ENOTTY. */
  readonly migrates: boolean;
  /** Several ranges map through an IOMMU as one does. Linux links them all to the start of the IOVA: EADDRINUSE. */
  readonly mapsSeveralRanges: boolean;
  /** IOMMU_IOAS_UNMAP that would cut an area changes nothing. Linux has unmapped the areas before it by then. */
  readonly ioasUnmapAllOrNone: boolean;
  /** SET_IRQS of several vectors that fails at one changes nothing. Linux has dropped those before it, and that one. */
  readonly irqsAllOrNone: boolean;
}

export const PROFILES = {
  default: {
    name: 'default',
    checkOpenFlags: true,
    revokeInD1D2: true,
    lowPowerDisablesMemory: true,
    wakeRestores: true,
    resetTakesVirtfns: true,
    tellAfterRestore: true,
    migrates: true,
    mapsSeveralRanges: true,
    ioasUnmapAllOrNone: true,
    irqsAllOrNone: true,
  },
  'linux-7.3': {
    name: 'linux-7.3',
    checkOpenFlags: false,
    revokeInD1D2: false,
    lowPowerDisablesMemory: false,
    wakeRestores: false,
    resetTakesVirtfns: false,
    tellAfterRestore: false,
    migrates: false,
    mapsSeveralRanges: false,
    ioasUnmapAllOrNone: false,
    irqsAllOrNone: false,
  },
} as const satisfies Record<string, Profile>;

export type ProfileName = keyof typeof PROFILES;
