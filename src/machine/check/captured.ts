/** The rules for captured devices beyond the schema: their config space must be that of a present endpoint. */
import {
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_VPD,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_DEVICE_ID,
  PCI_EXT_CAP_ID_SRIOV,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_PIN,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_QMASK,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_PBA,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
  PCI_SRIOV_TOTAL_VF,
  PCI_STD_HEADER_SIZEOF,
  PCI_VENDOR_ID,
} from '../../abi/pci_regs.ts';
import { PCI_VPD_ADDR_MASK } from '../../abi/pci_regs-cap.ts';
import { Vpd } from '../../pci/vpd.ts';
import { CapabilityListError, type CapturedCapability, CapturedConfig } from '../captured-config.ts';
import { ConfigTextError, parseConfigText } from '../config-text.ts';
import type { DeviceDescription } from '../schema.ts';
import type { Problem } from '../yaml.ts';
import { findMsixProblem, type MsixPlace } from './bars.ts';

export type CapturedDescription = Extract<DeviceDescription, { model: 'captured' }>;

const MIN_ROM_BYTES = 2 ** 11;
const MAX_ROM_BYTES = 2 ** 24;
/** The capability's address register has 15 bits. */
const MAX_VPD_BYTES = PCI_VPD_ADDR_MASK + 1;
/** The values for more than 32 vectors are reserved. */
const MAX_MSI_LOG2 = 5;

/** `path` starts at the device. */
export function findCapturedProblem(device: CapturedDescription): Problem | null {
  const inConfig = (message: string): Problem => ({ path: ['config'], message });
  const dump = parsed(device.config, 'config');
  if ('message' in dump) return dump;
  if (dump.length < PCI_STD_HEADER_SIZEOF) {
    return inConfig(`${dump.length} bytes, and the header alone has ${PCI_STD_HEADER_SIZEOF}`);
  }
  if (dump.length > PCI_CFG_SPACE_EXP_SIZE) {
    return inConfig(`${dump.length} bytes, and config space has ${PCI_CFG_SPACE_EXP_SIZE} at most`);
  }
  const reason = whyNotServable(dump);
  if (reason !== null) return inConfig(reason);
  const config = new CapturedConfig(dump);
  const problem = findIdProblem(device, config) ?? findPinProblem(config) ?? findRomProblem(device);
  return problem ?? findCapabilityProblem(device, config) ?? findVpdProblem(device, config);
}

/** Parses a field's hexadecimal text. */
function parsed(text: string, field: 'config' | 'vpd'): Uint8Array | Problem {
  try {
    return parseConfigText(text);
  } catch (error) {
    if (!(error instanceof ConfigTextError)) throw error;
    return { path: [field], message: error.message, textLine: error.line };
  }
}

/**
 * Returns why a config space cannot be served as an endpoint, with the next step; null when it can. `ids` may still be
 * missing.
 */
export function whyNotServable(dump: Uint8Array): string | null {
  if (dump.every((byte) => byte === 0xff)) {
    return 'every byte reads ff: the device was off or gone; wake it (power/control in sysfs), and capture again';
  }
  if (dump.every((byte) => byte === 0)) return 'every byte is 0: no device answers so; capture it again as root';
  const type = dump[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK;
  if (type === 1) return 'this is a bridge (header type 1); describe it under ports, and capture the devices below it';
  if (type === 2) return 'this is a CardBus bridge (header type 2); only endpoints can be served';
  if (type !== PCI_HEADER_TYPE_NORMAL) return `header type ${type} is unknown; was all of config space readable?`;
  return null;
}

function findIdProblem(device: CapturedDescription, config: CapturedConfig): Problem | null {
  if (device.physfn !== undefined) {
    const field = device.vendor !== undefined ? 'vendor' : 'device';
    if (device[field] === undefined) return null;
    return { path: [field], message: 'the ids of a virtual function come from its physical one; leave it out' };
  }
  const vendor = device.vendor ?? config.read(PCI_VENDOR_ID, 2);
  const id = device.device ?? config.read(PCI_DEVICE_ID, 2);
  const path = [device.vendor === undefined ? 'config' : 'vendor'];
  if (vendor === 0xffff) {
    const message = 'the vendor id reads ffff, as in a virtual function: give vendor and device, or its physfn';
    return { path, message };
  }
  if (vendor === 0 && (id === 0 || id === 0xffff)) return { path, message: 'vendor id 0 is what an empty slot reads' };
  return null;
}

function findPinProblem(config: CapturedConfig): Problem | null {
  const pin = config.read(PCI_INTERRUPT_PIN, 1);
  return pin <= 4 ? null : { path: ['config'], message: `interrupt pin ${pin}: there are INTA# to INTD#, 1 to 4` };
}

function findRomProblem({ romSize, physfn }: CapturedDescription): Problem | null {
  if (romSize === undefined) return null;
  if (physfn !== undefined) return { path: ['romSize'], message: 'a virtual function has no expansion ROM' };
  if (romSize >= MIN_ROM_BYTES && romSize <= MAX_ROM_BYTES) return null;
  return { path: ['romSize'], message: 'an expansion ROM has 2K to 16M' };
}

/** Checks data of a device whose capabilities have been checked. */
function findVpdProblem({ vpd }: CapturedDescription, config: CapturedConfig): Problem | null {
  if (vpd === undefined) return null;
  const at = (message: string): Problem => ({ path: ['vpd'], message });
  if (!config.hasCapability(PCI_CAP_ID_VPD)) {
    return at('config has no capability for vital product data, so nothing could read them');
  }
  const data = parsed(vpd, 'vpd');
  if ('message' in data) return data;
  if (data.length > MAX_VPD_BYTES) return at(`${data.length} bytes, and the capability reaches ${MAX_VPD_BYTES}`);
  if (Vpd.dataOf(data) !== null) return null;
  return at('the resources do not end with an end tag (78), so software ignores them');
}

function findCapabilityProblem({ bars }: CapturedDescription, config: CapturedConfig): Problem | null {
  let capabilities: CapturedCapability[];
  try {
    capabilities = config.capabilities();
  } catch (error) {
    if (!(error instanceof CapabilityListError)) throw error;
    return { path: ['config'], message: error.message };
  }
  const find = (id: number) => capabilities.find((one) => !one.extended && one.id === id)?.offset;
  const msi = find(PCI_CAP_ID_MSI);
  if (msi !== undefined) {
    const log2 = (config.read(msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1;
    if (log2 > MAX_MSI_LOG2) return { path: ['config'], message: `MSI has 32 vectors at most, not ${2 ** log2}` };
  }
  const msix = find(PCI_CAP_ID_MSIX);
  const problem = msix === undefined ? null : findMsixProblem(msixPlace(config, msix), bars);
  if (problem === null) return null;
  return { path: [problem.part === 'bar' ? 'bars' : 'config'], message: `MSI-X: ${problem.message}` };
}

function msixPlace(config: CapturedConfig, at: number): MsixPlace {
  const place = (register: number) => {
    const value = config.read(at + register, 4);
    return { bar: value & PCI_MSIX_TABLE_BIR, offset: (value & ~PCI_MSIX_TABLE_BIR) >>> 0 };
  };
  const vectors = (config.read(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
  return { vectors, table: place(PCI_MSIX_TABLE), pba: place(PCI_MSIX_PBA) };
}

/** Returns the most virtual functions of a captured physical one; 0 for other devices. Its config has been checked. */
export function totalVirtfns(device: CapturedDescription): number {
  const config = new CapturedConfig(parseConfigText(device.config));
  const sriov = config.capabilities().find(({ id, extended }) => extended && id === PCI_EXT_CAP_ID_SRIOV);
  return sriov === undefined ? 0 : config.read(sriov.offset + PCI_SRIOV_TOTAL_VF, 2);
}
