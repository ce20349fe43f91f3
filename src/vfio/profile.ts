/** Barter's own rules, those of Linux 7.3, or Barter's rules and what is proposed for Linux. */
export type ProfileName = 'default' | 'linux-7.3' | 'next';

/** Features that are proposed for Linux and not merged (docs/next.md). */
export interface Proposed {
  /** The number of VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE. */
  readonly revoke: number;
  /** The number of VFIO_DEVICE_FEATURE_DMA_BUF_TPH. */
  readonly tph: number;
}

/**
 * The differences from Linux 7.3, where Barter is stricter. Each field switches Barter to Linux's behaviour, so that
 * both can be compared step by step. docs/differences.md has the reason and the test of each field.
 */
export interface Profile {
  /** The name on the command line. */
  readonly name: ProfileName;
  /** Refuse open_flags that have no meaning for a dma-buf. Linux accepts any 32 bits. */
  readonly checkOpenFlags: boolean;
  /** Only D0 decodes (PCI PM 1.2, 5.3): D1 and D2 revoke as D3hot does. Linux revokes from D3hot on. */
  readonly revokeInD1D2: boolean;
  /** In low power the memory counts as disabled, even if COMMAND enables it. Linux looks only at COMMAND and D3hot. */
  readonly lowPowerDisablesMemory: boolean;
  /** Waking from low power by an event restores as LOW_POWER_EXIT does. In Linux the buffers stay revoked. */
  readonly wakeRestores: boolean;
  /**
   * Resets and config writes from outside (sysfs) revoke, and memory that they switch off is not lent. Linux's vfio-pci
   * does not hear of them.
   */
  readonly outsideRevokes: boolean;
  /**
   * The removal of a device waits for its user before it takes the lock of all buses. Linux waits inside, so that a
   * user keeps every bus from changing.
   */
  readonly waitsOutsideBusLock: boolean;
  /**
   * A buffer is released with its last file reference. Linux releases it with its path, so that an O_PATH descriptor
   * keeps it listed, and its driver bound.
   */
  readonly releasesWithFile: boolean;
  /** A reset of a PF revokes the buffers of its VFs, which it resets too. Linux revokes only those of the PF. */
  readonly resetTakesVirtfns: boolean;
  /**
   * Importers are told of a restore after it takes effect. Linux tells them before, and a map in their callback fails.
   */
  readonly tellAfterRestore: boolean;
  /**
   * A revoke tells the importers of all of a device's buffers before it waits. Linux tells those of a buffer only when
   * the buffers before it are back.
   */
  readonly tellAllFirst: boolean;
  /**
   * Devices migrate (features 1, 2 and 9). Linux leaves migration to drivers of single devices: vfio-pci gives ENOTTY.
   */
  readonly migrates: boolean;
  /** Several ranges map through an IOMMU, as one does. Linux links them all to the start of the IOVA: EADDRINUSE. */
  readonly mapsSeveralRanges: boolean;
  /** An IOMMU_IOAS_UNMAP that would cut an area changes nothing. Linux unmaps the areas before it first. */
  readonly ioasUnmapAllOrNone: boolean;
  /** A SET_IRQS of several vectors that fails at one changes nothing. Linux drops that one and those before it. */
  readonly irqsAllOrNone: boolean;
  /**
   * Null where nothing has it yet. Else a process may map a buffer's descriptor, an I/O address space takes buffers of
   * several ranges, and the features of these numbers exist.
   */
  readonly proposed: Proposed | null;
}

const BARTER = {
  checkOpenFlags: true,
  revokeInD1D2: true,
  lowPowerDisablesMemory: true,
  wakeRestores: true,
  outsideRevokes: true,
  waitsOutsideBusLock: true,
  releasesWithFile: true,
  resetTakesVirtfns: true,
  tellAfterRestore: true,
  tellAllFirst: true,
  migrates: true,
  mapsSeveralRanges: true,
  ioasUnmapAllOrNone: true,
  irqsAllOrNone: true,
};

/** The first numbers that Linux 7.3 leaves free. */
const PROPOSED: Proposed = { revoke: 14, tph: 15 };

/** The profiles by name. */
export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  default: { name: 'default', ...BARTER, proposed: null },
  'linux-7.3': {
    name: 'linux-7.3',
    checkOpenFlags: false,
    revokeInD1D2: false,
    lowPowerDisablesMemory: false,
    wakeRestores: false,
    outsideRevokes: false,
    waitsOutsideBusLock: false,
    releasesWithFile: false,
    resetTakesVirtfns: false,
    tellAfterRestore: false,
    tellAllFirst: false,
    migrates: false,
    mapsSeveralRanges: false,
    ioasUnmapAllOrNone: false,
    irqsAllOrNone: false,
    proposed: null,
  },
  next: { name: 'next', ...BARTER, proposed: PROPOSED },
};

/** The profile of a name; a profile of the caller's own stays as it is. */
export function asProfile(profile: ProfileName | Profile): Profile {
  return typeof profile === 'string' ? PROFILES[profile] : profile;
}
