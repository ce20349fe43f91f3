/** The schema of machine files: fields with units, defaults and meanings (docs/machine-files.md). */
import * as z from 'zod';
import { PCI_DEVICE_ID_INTEL_IOAT_SKX, PCI_VENDOR_ID_INTEL } from '../abi/ioat.ts';
import { VIRTIO_GPU_MAX_SCANOUTS } from '../abi/virtio_gpu.ts';
import { MAX_CHANNELS } from '../device/ioat/ioat.ts';
import { MAX_EDID_PIXELS } from '../device/virtio-gpu/edid.ts';
import type { MachineDescription } from './description.ts';
import { integer, missingOr, name, size, u8, u16, u24 } from './fields.ts';

const flag = (description: string) => z.boolean().describe(description);
const barIndex = integer(0, 5);
/** An MSI-X table lies below 4 GiB in its BAR. Its offset shares a register with the BAR's number. */
const tableOffset = integer(0, 0xffff_fff8).multipleOf(8, 'an offset is a multiple of 8');
const msiVectors = z.union(
  ([1, 2, 4, 8, 16, 32] as const).map((count) => z.literal(count)),
  { error: missingOr('MSI has 1, 2, 4, 8, 16 or 32 vectors') },
);

const bar = z.strictObject({
  index: barIndex.describe('Which base address register, 0 to 5. A mem64 BAR takes the next one too.'),
  kind: z
    .enum(['mem32', 'mem64', 'io'])
    .default('mem64')
    .describe('Memory with a 32-bit or 64-bit address, or I/O ports.'),
  prefetchable: flag('Reads have no side effects. Memory BARs only.').default(false),
  size: size.describe('Bytes, a power of two. Memory: 16 to 64T, to 2G with mem32. I/O: 1 to 32K.'),
});

const msix = z.strictObject({
  vectors: integer(1, 2048).describe('Entries of the table, 16 bytes each.'),
  bar: barIndex.describe('The memory BAR that holds the table and the pending bits.'),
  tableOffset: tableOffset.default(0).describe('Where the table starts in the BAR, in bytes; a multiple of 8.'),
  pbaOffset: tableOffset
    .default(0x800)
    .describe('Where the pending bits start, in bytes; a multiple of 8. 8 bytes for each 64 vectors.'),
});

const capabilities = z.strictObject({
  intx: flag('A level interrupt at INTA#.').optional(),
  pm: z
    .strictObject({
      noSoftReset: flag('Registers survive D3hot.').optional(),
      d1: flag('The device has the power state D1.').optional(),
      d2: flag('The device has the power state D2.').optional(),
    })
    .optional()
    .describe('Power management.'),
  vpd: z
    .strictObject({
      name: z
        .string()
        .regex(/^[ -~]{1,255}$/, 'a name of vital product data has 1 to 255 ASCII characters')
        .describe('The name that the product has.'),
      writableBytes: u8.optional().describe('Bytes that the system may write.'),
    })
    .optional()
    .describe('Vital product data.'),
  express: z
    .strictObject({
      flr: flag('The device has a function level reset.').optional(),
      tphCompleter: z
        .enum(['tph', 'extended'])
        .optional()
        .describe('It takes requests with TLP processing hints, also those with extended steering tags.'),
    })
    .optional()
    .describe('A PCI Express endpoint.'),
  af: flag('Advanced Features of conventional PCI, with FLR and the bit for pending transactions.').optional(),
  msi: z
    .strictObject({ vectors: msiVectors.describe('A power of two up to 32.') })
    .optional()
    .describe('Message signalled interrupts.'),
  msix: msix.optional().describe('MSI-X.'),
  sriov: z
    .strictObject({ vfDevice: u16.describe('The device id of its virtual functions.') })
    .optional()
    .describe('The device is a physical function. Devices that name it as `physfn` are its virtual functions.'),
});

const place = {
  name: name.describe('Names the socket NAME.sock, and the device in scenarios.'),
  port: name.describe('The port that the device is plugged into. Devices of one port are functions of one card.'),
};
const physfn = name
  .optional()
  .describe('Makes the device a virtual function of that device, which comes before it and shares its port.');

const identity = {
  vendor: u16.default(0x1b36).describe('Vendor id. 0xffff is what an empty slot reads.'),
  device: u16.default(0x0b01).describe('Device id.'),
  class: u24.default(0x058000).describe('Class, subclass and programming interface.'),
  revision: u8.default(1).describe('Revision id.'),
  subsystemVendor: u16.default(0).describe('Subsystem vendor id.'),
  subsystem: u16.default(0).describe('Subsystem id.'),
};

const memoryDevice = z
  .strictObject({
    ...place,
    model: z.literal('memory').describe('The kind of device.'),
    ...identity,
    bars: z.array(bar).min(1, 'a memory device has a BAR at least').describe('What the device answers for.'),
    capabilities: capabilities.default({}).describe('The capabilities in config space.'),
    physfn,
  })
  .describe('BARs of plain bytes: what a device lends.');

const ioatDevice = z
  .strictObject({
    ...place,
    model: z.literal('ioat').describe('The kind of device.'),
    ...identity,
    vendor: u16.default(PCI_VENDOR_ID_INTEL).describe('Vendor id.'),
    device: u16.default(PCI_DEVICE_ID_INTEL_IOAT_SKX).describe('Device id.'),
    class: u24.default(0x088000).describe('Class, subclass and programming interface.'),
    channels: integer(1, MAX_CHANNELS).default(1).describe('DMA channels, with an MSI-X vector each.'),
    capabilities: capabilities
      .omit({ msix: true, msi: true, sriov: true })
      .default({ pm: {}, express: { flr: true } })
      .describe('The capabilities in config space, beside MSI-X.'),
  })
  .describe("Intel's I/OAT DMA engine: it copies between bus addresses, and so borrows.");

const pixels = integer(32, MAX_EDID_PIXELS);
const virtioGpuDevice = z
  .strictObject({
    ...place,
    model: z.literal('virtio-gpu').describe('The kind of device.'),
    scanouts: integer(1, VIRTIO_GPU_MAX_SCANOUTS).default(1).describe('Screens.'),
    width: pixels.default(1024).describe('Pixels of each screen from left to right.'),
    height: pixels.default(768).describe('Pixels of each screen from top to bottom.'),
    capabilities: capabilities
      .pick({ intx: true, pm: true, express: true, af: true })
      .default({ pm: {}, express: { flr: true } })
      .describe("The capabilities in config space, beside MSI-X and virtio's own."),
  })
  .describe('A virtio GPU without 3D: it shows memory of the guest, or of a peer that its driver imported.');

const capturedDevice = z
  .strictObject({
    ...place,
    model: z.literal('captured').describe('The kind of device.'),
    config: z
      .string()
      .describe('Config space in hexadecimal, or as `lspci -xxx` and `-xxxx` print it. What is left out is 0.'),
    vendor: u16.optional().describe('Vendor id, where config space does not tell: a virtual function reads ffff.'),
    device: u16.optional().describe('Device id, where config space does not tell.'),
    bars: z.array(bar).describe('The BARs, whose sizes config space does not tell.'),
    vpd: z
      .string()
      .optional()
      .describe('Vital product data in hexadecimal. Without them the capability in config space does not answer.'),
    romSize: size.optional().describe('Bytes of the expansion ROM, from 2K to 16M. It reads as ones.'),
    physfn,
  })
  .describe('A real device, as `barter capture` found it. Its BARs are plain memory.');

const acs = z.strictObject({
  requestRedirect: flag('Requests between peers go up to the root complex.').default(false),
  completionRedirect: flag('Completions between peers go up.').default(false),
  egressControl: flag('The port decides which peers it lets through.').default(false),
});

const port = z.strictObject({
  name: name.describe('Names the port in `parent` and in the `port` of devices.'),
  kind: z
    .enum(['root', 'upstream', 'downstream'])
    .describe('A root port, or the upper port or a lower port of a switch.'),
  parent: name.optional().describe('The port above, which comes before it. Root ports have none.'),
  acs: acs.prefault({}).describe('Access control services: which requests the port sends up to the root complex.'),
});

const bridge = z.strictObject({
  vendor: u16.describe('Vendor id.'),
  device: u16.describe('Device id.'),
});
const PAGES = 'a multiple of 0x1000 from -0x80000000 to 0x8000000000000 is needed';
const host = z.strictObject({
  cpu: z
    .enum(['amd', 'intel', 'other'])
    .default('amd')
    .describe('Whose CPU; AMD from family 0x17 on routes between root ports.'),
  cpuFamily: u8.default(0x17).describe('The family of the CPU.'),
  bridge: bridge
    .default({ vendor: 0x8086, device: 0x29c0 })
    .describe('The host bridge. Linux knows some that route between peers.'),
  busOffset: z
    .number({ error: PAGES })
    .int(PAGES)
    .min(-0x8000_0000, PAGES)
    .max(2 ** 51, PAGES)
    .multipleOf(4096, PAGES)
    .default(0)
    .describe('Bus addresses are host addresses plus this.'),
  iommu: z
    .enum(['translated', 'passthrough', 'none'])
    .default('translated')
    .describe('What happens to the addresses that devices use.'),
});

const MODELS = [memoryDevice, ioatDevice, virtioGpuDevice, capturedDevice] as const;
const device = z.discriminatedUnion('model', MODELS, {
  error: ({ input }) => {
    const isMissing = Object(input).model === undefined;
    const models = 'the models are memory, ioat, virtio-gpu and captured; see barter devices';
    return isMissing ? `it is missing: ${models}` : models;
  },
});

/** The schema of a machine file. Its result is a `MachineDescription` (description.ts, generated from it). */
export const machineSchema = z.strictObject({
  machine: name.describe("The machine's name, from which the folder of its sockets has its name."),
  description: z.string().default('').describe('A sentence for readers.'),
  host: host.prefault({}).describe('The host bridge, the CPU and the IOMMU.'),
  ports: z
    .array(port)
    .min(1, 'a machine has a port at least')
    .describe('Root ports and switches, each after its parent.'),
  devices: z
    .array(device)
    .min(1, 'a machine has a device at least')
    .describe('The devices, a virtual function after its physical one.'),
}) satisfies z.ZodType<MachineDescription>;

export type { MachineDescription };
/** A device of a machine file, by its `model`. */
export type DeviceDescription = MachineDescription['devices'][number];
/** A BAR of a machine file. */
export type BarDescription = z.infer<typeof bar>;
