/** Builds a machine from its description. */
import { PCI_CLASS_REVISION, PCI_DEVICE_ID, PCI_SUBSYSTEM_VENDOR_ID, PCI_VENDOR_ID } from '../abi/pci_regs.ts';
import { IoatDevice } from '../device/ioat/ioat.ts';
import { MemoryDevice } from '../device/memory.ts';
import type { DeviceModel } from '../device/model.ts';
import type { Screen } from '../device/screen.ts';
import { VirtioGpu } from '../device/virtio-gpu/gpu.ts';
import { IommuDomain } from '../iommu/domain.ts';
import { addCapabilities, type CapabilitySpec } from '../pci/capabilities.ts';
import { ConfigSpace } from '../pci/config-space.ts';
import { Fabric } from '../pci/fabric.ts';
import { PciFunction } from '../pci/function.ts';
import { arrayMemory, type MemoryProvider } from '../pci/memory.ts';
import { Port } from '../pci/port.ts';
import { Vpd } from '../pci/vpd.ts';
import { capturedFunction } from './captured.ts';
import { physfnOf } from './physfn.ts';
import type { DeviceDescription, MachineDescription } from './schema.ts';

/** A machine in this process: its fabric with all functions plugged in. */
export interface Machine {
  /** The description that it was built from. */
  readonly description: MachineDescription;
  /** Host bridge, ports and routing. */
  readonly fabric: Fabric;
  /** The functions by their names in the description, in its order. */
  readonly functions: ReadonlyMap<string, PciFunction>;
  /** The models behind the functions, by the same names. Captured functions have none. */
  readonly models: ReadonlyMap<string, DeviceModel>;
  /** The devices that show something, by their names. */
  readonly screens: ReadonlyMap<string, Screen>;
}

/** Builds a machine that shares nothing with others. `memory` makes the memory of the BARs. */
export function buildMachine(description: MachineDescription, memory: MemoryProvider = arrayMemory): Machine {
  const ports = new Map<string, Port>();
  for (const { name, kind, parent, acs } of description.ports) {
    ports.set(name, new Port(name, kind, parent === undefined ? null : ports.get(parent)!, acs));
  }
  const functions = new Map<string, PciFunction>();
  const models = new Map<string, DeviceModel>();
  const screens = new Map<string, Screen>();
  for (const device of description.devices) {
    const physfn = physfnOf(device) === undefined ? null : functions.get(physfnOf(device)!)!;
    const { fn, model } = buildFunction(device, memory, physfn);
    if (model !== null) models.set(device.name, model);
    if (model?.screen !== undefined) screens.set(device.name, model.screen);
    ports.get(device.port)!.functions.push(fn);
    functions.set(device.name, fn);
  }
  const { host } = description;
  const hostBridge = {
    vendorId: host.bridge.vendor,
    deviceId: host.bridge.device,
    cpuVendor: host.cpu,
    cpuFamily: host.cpuFamily,
    busOffset: host.busOffset,
  };
  const roots = [...ports.values()].filter((port) => port.kind === 'root');
  const fabric = new Fabric(hostBridge, roots);
  if (host.iommu !== 'none') attachDomains(functions, host.iommu === 'translated');
  return { description, fabric, functions, models, screens };
}

/** Attaches one domain to each group: its members could reach each other's mappings anyway. */
function attachDomains(functions: ReadonlyMap<string, PciFunction>, translates: boolean): void {
  const domains = new Map<number, IommuDomain>();
  for (const fn of functions.values()) {
    let domain = domains.get(fn.iommuGroup);
    if (domain === undefined) {
      domain = new IommuDomain(`group ${fn.iommuGroup}`, { translates });
      domains.set(fn.iommuGroup, domain);
    }
    fn.iommuDomain = domain;
  }
}

interface BuiltFunction {
  fn: PciFunction;
  model: DeviceModel | null;
}

function buildFunction(device: DeviceDescription, memory: MemoryProvider, physfn: PciFunction | null): BuiltFunction {
  if (device.model === 'captured') return { fn: capturedFunction(device, memory, physfn), model: null };
  const model = buildModel(device);
  return { fn: functionOf(device.name, model, memory, physfn), model };
}

/** Makes a function of a model, ready to be plugged in. */
export function functionOf(
  name: string,
  model: DeviceModel,
  memory: MemoryProvider,
  physfn: PciFunction | null = null,
): PciFunction {
  const config = new ConfigSpace();
  const { identity } = model;
  // A VF's own ids read as ones (SR-IOV 1.1, 3.4.1.1); its physical function has the real ones.
  config.set(PCI_VENDOR_ID, 2, physfn === null ? identity.vendorId : 0xffff);
  config.set(PCI_DEVICE_ID, 2, physfn === null ? identity.deviceId : 0xffff);
  config.set(PCI_CLASS_REVISION, 4, ((identity.classCode << 8) | identity.revision) >>> 0);
  const { subsystemVendorId = 0, subsystemId = 0 } = identity;
  config.set(PCI_SUBSYSTEM_VENDOR_ID, 4, ((subsystemId << 16) | subsystemVendorId) >>> 0);
  addCapabilities(config, model.capabilities);
  const { vpd } = model.capabilities;
  const data = vpd === undefined ? {} : { vpd: Vpd.named(vpd.name, vpd.writableBytes) };
  const fn = new PciFunction({ name, config, bars: model.bars(memory), physfn, ...data });
  model.bind?.(fn);
  return fn;
}

function buildModel(device: Exclude<DeviceDescription, { model: 'captured' }>): DeviceModel {
  if (device.model === 'virtio-gpu') return new VirtioGpu(device.capabilities as CapabilitySpec, device).device;
  const identity = {
    vendorId: device.vendor,
    deviceId: device.device,
    classCode: device.class,
    revision: device.revision,
    subsystemVendorId: device.subsystemVendor,
    subsystemId: device.subsystem,
  };
  // In the schema's type an omitted field may also be undefined. The models accept nothing else.
  const capabilities = device.capabilities as CapabilitySpec;
  if (device.model === 'ioat') return new IoatDevice(identity, capabilities, device.channels);
  const bars = device.bars.map(({ size, ...bar }) => ({ ...bar, sizeBytes: size }));
  return new MemoryDevice(device.name, identity, capabilities, bars);
}
