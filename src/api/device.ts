/**
 * `barter/device`: the parts for a device of your own, and the server for it (docs/writing-a-device.md).
 *
 * @module barter/device
 */
export { Errno, type ErrnoName } from '../abi/errno.ts';
export type { DeviceIdentity, DeviceModel } from '../device/model.ts';
export { msixMemory } from '../device/msix.ts';
export type { Picture, Screen } from '../device/screen.ts';
export { type ServedDevices, serveDevices } from '../machine/serve-devices.ts';
export type { DeviceSockets } from '../machine/serve-worker.ts';
export { Bar, type BarKind, type BarTarget, type Doorbell, MemoryTarget } from '../pci/bar.ts';
export type { CapabilitySpec } from '../pci/capabilities.ts';
export type { CopyOutcome, DmaStatus } from '../pci/dma.ts';
export type { ConfigModel, DmaWriteSink, PciAddress, PciFunction } from '../pci/function.ts';
export type { FunctionHooks } from '../pci/lifecycle.ts';
export { ArrayMemory, type Memory, type MemoryExtent, type MemoryProvider } from '../pci/memory.ts';
export type { PciPowerState } from '../pci/power-state.ts';
export type { RegisterWrite } from '../pci/register-write.ts';
export type { Log, LogAbout, LogLevel } from '../vfio-user/wire/log.ts';
