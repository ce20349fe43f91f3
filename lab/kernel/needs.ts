/** The options that the lab needs in a kernel, and the check of a kernel's configuration. */

interface Need {
  /** One of these is enough, set to y or, if the lab can load it as a module, to m. The first is recommended. */
  options: readonly string[];
  /** False if it must be built in, because the guest needs it before it has modules. */
  mayBeModule: boolean;
  why: string;
}

const BUILT_IN: readonly [string, string][] = [
  ['64BIT', 'x86-64'],
  ['ACPI', 'the machine describes itself by ACPI'],
  ['PCI', 'devices'],
  ['PCI_MSI', 'interrupts'],
  ['PRINTK', 'the console'],
  ['TTY', 'the console'],
  ['SERIAL_8250', 'the console'],
  ['SERIAL_8250_CONSOLE', 'the console'],
  ['BLK_DEV_INITRD', 'the first file system'],
  ['RD_GZIP', 'the first file system is compressed'],
  ['BINFMT_ELF', 'programs'],
  ['BINFMT_SCRIPT', 'scripts'],
  ['PROC_FS', 'programs look there'],
  ['SYSFS', 'devices are bound there'],
  ['DEVTMPFS', 'device nodes'],
  ['TMPFS', 'files that the guest writes'],
];

const EITHER: readonly [string, string][] = [
  ['VIRTIO_PCI', "the ports that the host talks through, and the host's files"],
  ['VIRTIO_CONSOLE', 'the ports that the host talks through'],
  ['NET_9P', "the host's files"],
  ['NET_9P_VIRTIO', "the host's files"],
  ['9P_FS', "the host's files"],
  ['VFIO', 'devices for user space'],
  ['VFIO_PCI', 'devices for user space'],
];

const VFIO: readonly [string, string][] = [
  ['IRQ_REMAP', 'interrupts of devices that user space owns'],
  ['INTEL_IOMMU', 'the machine has one'],
  ['PCI_P2PDMA', 'peer-to-peer memory'],
  ['DMA_SHARED_BUFFER', 'dma-bufs'],
  ['VFIO_PCI_DMABUF', 'VFIO_DEVICE_FEATURE_DMA_BUF'],
];

const NEEDS: readonly Need[] = [
  ...BUILT_IN.map(([option, why]) => ({ options: [option], mayBeModule: false, why })),
  ...EITHER.map(([option, why]) => ({ options: [option], mayBeModule: true, why })),
  ...VFIO.map(([option, why]) => ({ options: [option], mayBeModule: false, why })),
  { options: ['VFIO_GROUP', 'VFIO_DEVICE_CDEV'], mayBeModule: false, why: 'a way to open a device' },
  { options: ['VFIO_CONTAINER', 'IOMMUFD_VFIO_CONTAINER', 'IOMMUFD'], mayBeModule: true, why: 'an IOMMU for devices' },
];

/** The values of a .config: y, m, or a text. An unset option is absent. */
export function parseConfig(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^CONFIG_(\w+)=(.*)$/.exec(line);
    if (match !== null) options.set(match[1], match[2]);
  }
  return options;
}

/** One line for each unmet need of a configuration, with the command that meets it. */
export function unmetNeeds(config: ReadonlyMap<string, string>): string[] {
  const isMet = ({ options, mayBeModule }: Need): boolean =>
    options.some((option) => {
      const value = config.get(option);
      return value === 'y' || (mayBeModule && value === 'm');
    });
  return NEEDS.filter((need) => !isMet(need)).map(({ options: [first, ...others], why }) => {
    const also = others.length === 0 ? '' : `, nor is ${others.map((option) => `CONFIG_${option}`).join(' or ')}`;
    const state = config.get(first) === 'm' ? 'is m and must be y' : 'is not set';
    return `CONFIG_${first} ${state}${also} (${why}); scripts/config -e ${first}`;
  });
}

/** The output of `barter lab kconfig`: a fragment for scripts/kconfig/merge_config.sh. */
export function kconfigFragment(): string {
  const lines = NEEDS.map(({ options: [option], why }) => `# ${why}\nCONFIG_${option}=y`);
  return `# What barter's lab needs of a kernel: scripts/kconfig/merge_config.sh .config FRAGMENT\n${lines.join('\n')}\n`;
}
