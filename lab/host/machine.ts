/** The virtual machine that the lab boots, as QEMU's arguments. */
import type { LabKernel } from '../kernel/kernel.ts';

export type Accel = 'kvm' | 'tcg';

const MEMORY = '2G';
const CPUS = 2;

export interface MachineOptions {
  kernel: LabKernel;
  accel: Accel;
  /** QEMU's devices, each below its own root port: the first at 0000:01:00.0, the second at 0000:02:00.0, ... */
  devices: readonly string[];
  /** Devices on the root complex itself, further functions of a port's slot, and other arguments. */
  extra?: readonly string[];
  /** Words for the kernel's command line that choose the use of the IOMMU. */
  iommu?: string;
  /** Makes a kernel with kmemleak look for leaks, which doubles the time to boot. */
  leakCheck?: boolean;
  /** More words for the kernel's command line. */
  append?: string;
  /** The memory, as in QEMU's -m. */
  memory?: string;
  cpus?: number;
}

/**
 * GT/s. After a bus reset Linux waits for a faster port to report that its link is up. QEMU's ports never do, so Linux
 * calls the reset failed.
 */
const LINK_SPEED = 5;

/** The guest's address of device number `index`. */
export function guestAddress(index: number): string {
  return `0000:${(index + 1).toString(16).padStart(2, '0')}:00.0`;
}

/** All of QEMU's arguments except files and ports. The console is QEMU's standard output. */
export function machineArguments(initrd: string, options: MachineOptions): string[] {
  const { kernel, accel, devices, extra = [], memory = MEMORY, cpus = CPUS } = options;
  const ports = devices.flatMap((device, i) => [
    '-device',
    `pcie-root-port,id=port${i},chassis=${i + 1},addr=0x${(i + 8).toString(16)},x-speed=${LINK_SPEED}`,
    '-device',
    withBus(device, `port${i}`),
  ]);
  return [
    ...['-M', 'q35,kernel-irqchip=split,memory-backend=ram', '-accel', accel === 'kvm' ? 'kvm' : 'tcg,thread=multi'],
    // Linux lets peers reach each other through an AMD host bridge of this family, but not with -cpu max.
    ...['-cpu', 'EPYC', '-smp', String(cpus)],
    ...['-m', memory, '-object', `memory-backend-memfd,id=ram,size=${memory},share=on`],
    ...['-nodefaults', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-device', 'intel-iommu,intremap=on,caching-mode=on'],
    ...['-kernel', kernel.image(), '-initrd', initrd, '-append', commandLine(options)],
    ...ports,
    ...extra,
  ];
}

/**
 * Prints warnings, since the lab looks for the kernel's complaints on its console. On a busy machine the timer's
 * interrupts come late and would look broken to the kernel, so it does not check them.
 */
function commandLine({ kernel, iommu = 'iommu=nopt', leakCheck, append }: MachineOptions): string {
  const words = [`console=ttyS0 loglevel=5 intel_iommu=on ${iommu} no_timer_check panic=-1`, ...kernel.append];
  if (kernel.hasKmemleak) words.push(`kmemleak=${leakCheck === true ? 'on' : 'off'}`);
  if (append !== undefined) words.push(append);
  return words.join(' ');
}

/** The host's root, read-only for the guest. */
export const HOST_FILES: readonly string[] = [
  ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
  ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
];

/** A folder that the guest can write. The guest mounts it by its tag. */
export function sharedFolder(tag: string, path: string): string[] {
  // A comma in QEMU's options is written twice.
  const escaped = path.replaceAll(',', ',,');
  return [
    ...['-fsdev', `local,id=${tag},path=${escaped},security_model=none,multidevs=remap`],
    ...['-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`],
  ];
}

/** Ports of the guest, each a socket of its name in `folder`. */
export function portArguments(folder: string, names: readonly string[]): string[] {
  const ports = names.flatMap((name, i) => [
    ...['-chardev', `socket,id=${name},path=${folder}/${name}.sock,server=on,wait=off`],
    ...['-device', `virtserialport,chardev=${name},name=${name},nr=${i + 1}`],
  ]);
  return ['-device', 'virtio-serial-pci,id=ports', ...ports];
}

/** QEMU takes a device as words, or as JSON if a field is an object (a socket). */
function withBus(device: string, bus: string): string {
  if (!device.startsWith('{')) return `${device},bus=${bus}`;
  return JSON.stringify({ ...JSON.parse(device), bus });
}
