/** The device of any vfio-user server, as its replies describe it. */
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CLASS_REVISION,
  PCI_DEVICE_ID,
  PCI_STD_NUM_BARS,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from '../abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ROM_REGION_INDEX } from '../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio-feature.ts';
import type { SysfsBar } from '../linux/sysfs.ts';
import type { VfioUserClient } from '../vfio-user/client/client.ts';
import { type Exchange, RefusedError } from '../vfio-user/client/exchange.ts';
import { hasFeature } from '../vfio-user/client/feature.ts';
import {
  deviceFlagNames,
  deviceStateName,
  irqFlagNames,
  migrationFlagNames,
  PCI_IRQ_NAMES,
  PCI_REGION_NAMES,
  regionFlagNames,
} from '../vfio-user/client/flag-names.ts';
import { migrationFlags, migrationState } from '../vfio-user/client/migration.ts';
import type { ClientRegionInfo } from '../vfio-user/client/region-info.ts';
import type { Capabilities } from '../vfio-user/wire/version.ts';
import { capabilityName } from './capability-names.ts';
import { CapabilityListError, CapturedConfig } from './captured-config.ts';

/** The most regions and interrupt indexes that are asked for. A PCI device has 9 and 5. */
const MAX_INDEXES = 64;

export interface ForeignRegion {
  index: number;
  /** `bar0` to `bar5`, `rom`, `config`, `vga`, or the number. */
  name: string;
  sizeBytes: number;
  /** VFIO_REGION_INFO_FLAG_* by name. */
  flags: string[];
  /** The areas that a client may map; null where the server shares no memory. */
  mappable: { offset: number; sizeBytes: number }[] | null;
  isMsixMappable: boolean;
  /** Null unless it is a BAR. */
  bar: Omit<SysfsBar, 'index' | 'sizeBytes'> | null;
}

export interface ForeignDevice {
  /** What both sides agreed on in VERSION. */
  version: Capabilities;
  /** VFIO_DEVICE_FLAGS_* by name. */
  flags: string[];
  vendor: number;
  device: number;
  subsystemVendor: number;
  subsystem: number;
  /** 24 bits. */
  classCode: number;
  revision: number;
  /** Config space as the server shows it. */
  config: Uint8Array;
  regions: ForeignRegion[];
  irqs: { index: number; name: string; count: number; flags: string[] }[];
  capabilities: { id: number; name: string; extended: boolean; offset: number }[];
  /** Why the lists of capabilities cannot be followed; null where they can. */
  capabilityProblem: string | null;
  /** VFIO_MIGRATION_* by name, and the state; null for a device that does not migrate. */
  migration: { flags: string[]; state: string } | null;
  /** Further features that the server says it has. */
  features: string[];
}

/** Asks the server about everything. Regions and interrupts that it refuses count as absent. */
export function readForeignDevice(client: VfioUserClient): ForeignDevice {
  const { flags, numRegions, numIrqs } = client.info();
  const config = readConfig(client);
  const space = new CapturedConfig(config);
  const { read } = space;
  const classRevision = read(PCI_CLASS_REVISION, 4);
  const irqs = indexes(numIrqs).flatMap((index) => {
    const irq = unlessRefused(() => client.irqInfo(index));
    if (irq === null || irq.count === 0) return [];
    return [{ index, name: PCI_IRQ_NAMES[index] ?? `${index}`, count: irq.count, flags: irqFlagNames(irq.flags) }];
  });
  return {
    version: client.capabilities,
    flags: deviceFlagNames(flags),
    vendor: read(PCI_VENDOR_ID, 2),
    device: read(PCI_DEVICE_ID, 2),
    subsystemVendor: read(PCI_SUBSYSTEM_VENDOR_ID, 2),
    subsystem: read(PCI_SUBSYSTEM_ID, 2),
    classCode: classRevision >>> 8,
    revision: classRevision & 0xff,
    config,
    regions: indexes(numRegions).flatMap((index) => regionOf(client, space, index)),
    irqs,
    ...capabilitiesOf(space),
    migration: migrationOf(client),
    features: featuresOf(client),
  };
}

const indexes = (count: number) => Array.from({ length: Math.min(count, MAX_INDEXES) }, (_, index) => index);

function unlessRefused<T>(ask: () => T): T | null {
  try {
    return ask();
  } catch (error) {
    if (error instanceof RefusedError) return null;
    throw error;
  }
}

/** Returns a region's info without its descriptor, which is closed; null where the server refuses. */
export function askRegion(client: VfioUserClient, index: number): ClientRegionInfo | null {
  const info = unlessRefused(() => client.regionInfo(index));
  info?.map?.fd.close();
  return info;
}

/** Reads config space, word by word where the server takes no larger reads. Empty without config space. */
function readConfig(client: VfioUserClient): Uint8Array {
  const region = VFIO_PCI_CONFIG_REGION_INDEX;
  const config = new Uint8Array(Math.min(askRegion(client, region)?.sizeBytes ?? 0, PCI_CFG_SPACE_EXP_SIZE));
  if (unlessRefused(() => client.readRegion(region, 0, config) ?? true) !== null) return config;
  for (let at = 0; at + 4 <= config.length; at += 4) client.readRegion(region, at, config.subarray(at, at + 4));
  return config;
}

function regionOf(client: VfioUserClient, config: CapturedConfig, index: number): ForeignRegion[] {
  const info = askRegion(client, index);
  if (info === null || info.sizeBytes === 0) return [];
  const { flags, sizeBytes, map, isMsixMappable } = info;
  const name = PCI_REGION_NAMES[index] ?? `${index}`;
  const bar = index < PCI_STD_NUM_BARS ? barOf(config.read(PCI_BASE_ADDRESS_0 + 4 * index, 4)) : null;
  const mappable = map?.areas ?? null;
  return [{ index, name, sizeBytes, flags: regionFlagNames(flags), mappable, isMsixMappable, bar }];
}

function barOf(register: number): Omit<SysfsBar, 'index' | 'sizeBytes'> {
  if ((register & PCI_BASE_ADDRESS_SPACE_IO) !== 0) return { kind: 'io', prefetchable: false };
  const is64 = (register & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
  return { kind: is64 ? 'mem64' : 'mem32', prefetchable: (register & PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0 };
}

function capabilitiesOf(config: CapturedConfig): Pick<ForeignDevice, 'capabilities' | 'capabilityProblem'> {
  try {
    const capabilities = config.capabilities().map(({ id, extended, offset }) => {
      return { id, name: capabilityName(id, extended), extended, offset };
    });
    return { capabilities, capabilityProblem: null };
  } catch (error) {
    if (!(error instanceof CapabilityListError)) throw error;
    return { capabilities: [], capabilityProblem: error.message };
  }
}

function migrationOf(client: VfioUserClient): ForeignDevice['migration'] {
  const flags = unlessRefused(() => client.run(migrationFlags()));
  if (flags === null || flags === 0) return null;
  const state = unlessRefused(() => client.run(migrationState()));
  return { flags: migrationFlagNames(flags), state: state === null ? 'unknown' : deviceStateName(state) };
}

const FEATURES = [
  ['LOW_POWER', VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_SET],
  ['DMA_LOGGING', VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET],
  ['DMA_BUF', VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_GET],
] as const;

function featuresOf(client: VfioUserClient): string[] {
  const has = (probe: Exchange<boolean>) => client.run(probe);
  return FEATURES.filter(([, feature, way]) => has(hasFeature(feature, way))).map(([name]) => name);
}

/** The BARs and the ROM, for a machine file. */
export function memoriesOf({ regions }: ForeignDevice): { bars: SysfsBar[]; romSizeBytes: number } {
  const bars = regions.flatMap(({ index, sizeBytes, bar }) => (bar === null ? [] : [{ index, sizeBytes, ...bar }]));
  return { bars, romSizeBytes: regions.find(({ index }) => index === VFIO_PCI_ROM_REGION_INDEX)?.sizeBytes ?? 0 };
}
