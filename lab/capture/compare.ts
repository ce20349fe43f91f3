/**
 * Compares a device with its second capture, made in a guest that has the served first one. Both are built, so both
 * have the state after a reset.
 */
import {
  PCI_CFG_SPACE_SIZE,
  PCI_EXT_CAP_ID_ARI,
  PCI_EXT_CAP_ID_SRIOV,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MFD,
} from '../../src/abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { buildMachine } from '../../src/machine/build.ts';
import type { CapturedDescription } from '../../src/machine/check/captured.ts';
import { formatConfigText } from '../../src/machine/config-text.ts';
import { parseMachine } from '../../src/machine/load.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import { runner } from '../../src/task/runner.ts';
import { VfioPciCoreDevice } from '../../src/vfio/core.ts';

/** vfio shows these, and QEMU hides them from its guest: a guest could neither make VFs nor number functions. */
const HIDDEN_BY_QEMU = [PCI_EXT_CAP_ID_ARI, PCI_EXT_CAP_ID_SRIOV];

/** Returns what differs, a line each; none for the same device. */
export function differencesOf(first: CapturedDescription, second: CapturedDescription): string[] {
  const [before, after] = [built(asAttached(first)), built(second)];
  const differences: string[] = [];
  const compare = (what: string, expected: unknown, seen: unknown): void => {
    const [one, other] = [expected, seen].map((value) => JSON.stringify(value) ?? 'none');
    if (one !== other) differences.push(`${what}: ${one}, then ${other}`);
  };
  compare('BARs', first.bars, second.bars);
  compare('ROM', first.romSize, second.romSize);
  compare('vital product data', first.vpd, second.vpd);
  compare('capabilities', before.config.capabilities(), after.config.capabilities());
  const [x, y] = [before.config.snapshot(), after.config.snapshot()].map((bytes) => Buffer.from(bytes));
  compare('bytes of config space', x.length, y.length);
  for (let at = 0; at < Math.min(x.length, y.length); at += 4) {
    compare(`0x${at.toString(16)}`, x.toString('hex', at, at + 4), y.toString('hex', at, at + 4));
  }
  return differences;
}

function built(device: CapturedDescription): PciFunction {
  const machine = { machine: 'one', ports: [{ name: device.port, kind: 'root' }], devices: [device] };
  return [...buildMachine(parseMachine(JSON.stringify(machine), 'the capture')).functions.values()][0];
}

/** The device as vfio shows it to QEMU, and QEMU to its guest: a function alone in its slot. */
export function asAttached(device: CapturedDescription): CapturedDescription {
  const fn = built(device);
  const vdev = new VfioPciCoreDevice(fn);
  runner.run(vdev.open());
  const config = Buffer.alloc(fn.config.sizeBytes);
  runner.run(vdev.read(VFIO_PCI_CONFIG_REGION_INDEX, 0, config));
  config[PCI_HEADER_TYPE] &= ~PCI_HEADER_TYPE_MFD;
  if (config.length > PCI_CFG_SPACE_SIZE) hideExtended(config);
  return { ...device, config: formatConfigText(config) };
}

/** Takes capabilities out of the extended list: the one before points to the one after. */
function hideExtended(config: Buffer): void {
  let before = 0;
  for (let at = PCI_CFG_SPACE_SIZE; at !== 0; ) {
    const header = config.readUInt32LE(at);
    const next = (header >>> 20) & ~3;
    if (!HIDDEN_BY_QEMU.includes(header & 0xffff)) before = at;
    // The first one stays as a placeholder with id and version 0.
    else if (before === 0) config.writeUInt32LE((next << 20) >>> 0, at);
    else config.writeUInt32LE(((next << 20) | (config.readUInt32LE(before) & 0xfffff)) >>> 0, before);
    at = next;
  }
}
