/** Machine files: what may stand in them. Sizes are numbers of bytes or text such as `64M`. */
import * as z from 'zod';
import { PCI_DEVICE_ID_INTEL_IOAT_SKX, PCI_VENDOR_ID_INTEL } from '../abi/ioat.ts';
import { MAX_CHANNELS } from '../device/ioat/ioat.ts';

const name = z.string().regex(/^[A-Za-z][\w.-]*$/, 'a name starts with a letter and has letters, digits, . _ -');
const u16 = z.number().int().min(0).max(0xffff);
const UNITS: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

const size = z
  .union([z.number().int().positive(), z.string().regex(/^\d+[KMGT]?$/, 'a size is a number of bytes, or such as 64M')])
  .transform((value) => {
    if (typeof value === 'number') return value;
    const unit = value.at(-1)!;
    return unit in UNITS ? Number(value.slice(0, -1)) * UNITS[unit] : Number(value);
  })
  .refine((value) => Number.isInteger(Math.log2(value)), 'the size of a BAR is a power of two')
  .refine((value) => value <= 2 ** 46, 'a BAR has at most 64 TiB');

const bar = z.strictObject({
  index: z.number().int().min(0).max(5),
  kind: z.enum(['mem32', 'mem64', 'io']).default('mem64'),
  prefetchable: z.boolean().default(false),
  size,
});

const capabilities = z.strictObject({
  intx: z.boolean().optional(),
  pm: z
    .strictObject({ noSoftReset: z.boolean().optional(), d1: z.boolean().optional(), d2: z.boolean().optional() })
    .optional(),
  /** Vital product data: a name, and how many bytes the system may write. */
  vpd: z
    .strictObject({
      name: z.string().regex(/^[ -~]{1,255}$/, 'a name of vital product data has 1 to 255 ASCII characters'),
      writableBytes: z.number().int().min(0).max(255).optional(),
    })
    .optional(),
  express: z.strictObject({ flr: z.boolean().optional() }).optional(),
  af: z.boolean().optional(),
  msi: z.strictObject({ vectors: z.union([1, 2, 4, 8, 16, 32].map((count) => z.literal(count))) }).optional(),
  msix: z
    .strictObject({
      vectors: z.number().int().min(1).max(2048),
      bar: z.number().int().min(0).max(5),
      tableOffset: z.number().int().multipleOf(8).default(0),
      pbaOffset: z.number().int().multipleOf(8).default(0x800),
    })
    .optional(),
  /** A physical function: devices that name it as their `physfn` are its virtual functions. */
  sriov: z.strictObject({ vfDevice: u16 }).optional(),
});

const identity = {
  vendor: u16.default(0x1b36),
  device: u16.default(0x0b01),
  class: z.number().int().min(0).max(0xffffff).default(0x058000),
  revision: z.number().int().min(0).max(255).default(1),
  subsystemVendor: u16.default(0),
  subsystem: u16.default(0),
};

const acs = z.strictObject({
  requestRedirect: z.boolean().default(false),
  completionRedirect: z.boolean().default(false),
  egressControl: z.boolean().default(false),
});

const memoryDevice = z.strictObject({
  name,
  model: z.literal('memory'),
  port: name,
  ...identity,
  bars: z.array(bar).min(1),
  capabilities: capabilities.default({}),
  physfn: name.optional(),
});
const ioatDevice = z.strictObject({
  name,
  model: z.literal('ioat'),
  port: name,
  ...identity,
  vendor: u16.default(PCI_VENDOR_ID_INTEL),
  device: u16.default(PCI_DEVICE_ID_INTEL_IOAT_SKX),
  class: identity.class.default(0x088000),
  channels: z.number().int().min(1).max(MAX_CHANNELS).default(1),
  capabilities: capabilities.omit({ msix: true, msi: true, sriov: true }).default({ pm: {}, express: { flr: true } }),
});
/** A device as `barter capture` found it: all of its config space, and the size of each BAR. */
const capturedDevice = z.strictObject({
  name,
  model: z.literal('captured'),
  port: name,
  /** Config space in hexadecimal, 16 bytes a line. */
  config: z.string(),
  bars: z.array(bar),
  romSize: size.optional(),
  physfn: name.optional(),
});

export const machineSchema = z.strictObject({
  machine: name,
  description: z.string().default(''),
  host: z
    .strictObject({
      cpu: z.enum(['amd', 'intel', 'other']).default('amd'),
      cpuFamily: z.number().int().min(0).max(0xff).default(0x17),
      bridge: z.strictObject({ vendor: u16, device: u16 }).default({ vendor: 0x8086, device: 0x29c0 }),
      busOffset: z.number().int().default(0),
      iommu: z.enum(['translated', 'passthrough', 'none']).default('translated'),
    })
    .prefault({}),
  ports: z
    .array(
      z.strictObject({
        name,
        kind: z.enum(['root', 'upstream', 'downstream']),
        parent: name.optional(),
        acs: acs.prefault({}),
      }),
    )
    .min(1),
  devices: z.array(z.discriminatedUnion('model', [memoryDevice, ioatDevice, capturedDevice])).min(1),
});

export type MachineDescription = z.infer<typeof machineSchema>;
export type DeviceDescription = MachineDescription['devices'][number];
