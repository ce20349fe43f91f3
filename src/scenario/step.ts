/**
 * The language of scenarios: named tasks, each a list of steps. A step is one system call, or one action of an
 * importer. It gives the same kind of result on the engine, over vfio-user and on a real kernel.
 */
import * as z from 'zod';
import { hex, name, noDescriptor, size, step, u8, u16, u32, u64 } from './step-schema.ts';
import { sysfsSteps } from './sysfs-schema.ts';

/** Steps on an open device by its name in the machine, which make nothing with a name. */
const openDeviceSteps = [
  step('close', 'Closes the device. Its buffers are taken back.', { device: name }),
  step('info', 'VFIO_DEVICE_GET_INFO.', { device: name }),
  step('region-info', 'VFIO_DEVICE_GET_REGION_INFO.', { device: name, region: u32 }),
  step('irq-info', 'VFIO_DEVICE_GET_IRQ_INFO.', { device: name, index: u32 }),
  step('config-read', 'Reads config space.', { device: name, offset: u32, size }),
  step('config-write', 'Writes config space.', { device: name, offset: u32, size, value: u32 }),
  step('cap-read', 'Finds a capability by its id, and reads relative to it. `ext` finds extended ones.', {
    device: name,
    cap: u32,
    ext: z.boolean().optional(),
    offset: u32,
    size,
  }),
  step('cap-write', 'Finds a capability by its id, and writes relative to it.', {
    device: name,
    cap: u32,
    ext: z.boolean().optional(),
    offset: u32,
    size,
    value: u32,
  }),
  step('memory', 'Sets or clears the memory bit of COMMAND.', { device: name, on: z.boolean() }),
  step('power', 'Writes the power state, D0 to D3hot, into PMCSR.', {
    device: name,
    state: z.number().int().min(0).max(3),
  }),
  step('flr', 'Function level reset through the Express capability.', { device: name }),
  step('af-flr', 'Function level reset through the Advanced Features capability.', { device: name }),
  step('reset', 'VFIO_DEVICE_RESET.', { device: name }),
  step(
    'hot-reset',
    'VFIO_DEVICE_PCI_HOT_RESET, with the open groups that it hits, or with the first `groups` that are open.',
    { device: name, groups: u32.optional() },
  ),
  step('hot-reset-info', 'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.', { device: name }),
  step('low-power-entry', 'VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY.', { device: name }),
  step('low-power-exit', 'VFIO_DEVICE_FEATURE_LOW_POWER_EXIT.', { device: name }),
  step('region-read', 'Reads a region.', { device: name, region: u32, offset: u64, length: u32 }),
  step('region-write', 'Writes a region.', { device: name, region: u32, offset: u64, bytes: hex }),
] as const;

/** Steps on a device by its name in the machine. */
const deviceSteps = [
  ...openDeviceSteps,
  step(
    'open',
    'Opens the device by its group; with `cdev` by its own node, for the iommufd, which address spaces want.',
    { device: name, vfToken: hex.optional(), cdev: z.boolean().optional() },
  ),
  step('low-power-entry-with-wakeup', 'Enters low power, with an eventfd that a wake-up signals.', {
    device: name,
    as: name,
  }),
  step('mmap', 'Maps a part of a region.', { device: name, region: u32, offset: u64, length: u64, as: name }),
  step(
    'set-irqs',
    'VFIO_DEVICE_SET_IRQS. `events` are names to make eventfds under, null for -1, or the number of a bad descriptor.',
    {
      device: name,
      flags: u32,
      index: u32,
      start: u32,
      count: u32,
      /** For eventfd data: names for new eventfds, null for -1, or a number that is not a descriptor. */
      events: z.array(z.union([name, z.null(), noDescriptor])).optional(),
      bools: z.array(z.number().int().min(0).max(255)).optional(),
    },
  ),
  step(
    'feature',
    'The raw VFIO_DEVICE_FEATURE: `payload` lies behind the header in memory, `argsz` is what the header claims.',
    {
      device: name,
      flags: u32,
      argsz: u32,
      payload: hex,
      /** The readable bytes of the header; all 8 by default. */
      headerBytes: u32.max(8).optional(),
      as: name.optional(),
    },
  ),
  step('export', 'Exports ranges of a region, [offset, bytes] each, as a dma-buf.', {
    device: name,
    region: u32,
    ranges: z.array(z.tuple([u64, u64])),
    openFlags: u32.optional(),
    flags: u32.optional(),
    /** The number of ranges that the header claims, if not the real number. Missing ranges are unreadable. */
    nrRanges: u32.optional(),
    as: name.optional(),
  }),
  step('revoke-buffer', 'VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, as proposed: takes a buffer back for good.', {
    device: name,
    fd: name,
  }),
  step('set-tph', 'VFIO_DEVICE_FEATURE_DMA_BUF_TPH, as proposed: the hints for writes to a buffer.', {
    device: name,
    fd: name,
    flags: u32,
    steeringTag: u8.optional(),
    steeringTagExt: u16.optional(),
    ph: u8.optional(),
  }),
] as const;

/** Steps on objects that a device's steps have made. */
const mappingSteps = [
  step('mmap-read', 'Loads through a mapping of a region.', { map: name, offset: u64, length: u32 }),
  step('mmap-write', 'Stores through a mapping of a region.', { map: name, offset: u64, bytes: hex }),
  step('munmap', 'Unmaps a region.', { map: name }),
  step('event-count', 'How often an eventfd was signalled since the last such step.', { event: name }),
] as const;

/** Steps on the descriptor of a dma-buf or a sync file, by the name that a step gave it. */
const descriptorSteps = [
  step('close-fd', 'Closes a descriptor.', { fd: name }),
  step('dup-fd', 'Duplicates a descriptor.', { fd: name, as: name }),
  step('hold-fd', "Holds a descriptor's file in another way, which `release-hold` ends.", {
    fd: name,
    how: z.enum(['fork', 'scm-rights', 'o-path', 'io-uring', 'epoll']),
    as: name,
  }),
  step('release-hold', 'Lets go of what `hold-fd` holds.', { hold: name }),
  step('lseek', 'Seeks in a dma-buf, which tells its size.', { fd: name, offset: z.number().int(), whence: u32 }),
  step('mmap-fd', 'Maps a dma-buf into the process: its first page, or a part in bytes. Only the profile `next` can.', {
    fd: name,
    offset: u32.optional(),
    length: u32.optional(),
    private: z.boolean().optional(),
    as: name.optional(),
  }),
  step('set-name', 'DMA_BUF_SET_NAME.', { fd: name, name: z.string() }),
  step('sync', 'DMA_BUF_IOCTL_SYNC.', { fd: name, flags: u32 }),
  step('poll', 'Polls a dma-buf or a sync file.', { fd: name }),
  step('fdinfo', 'What /proc/self/fdinfo says.', { fd: name }),
  step(
    'fd-call',
    'Another system call on the descriptor: `stat` gives size and mode, `link` where /proc/self/fd points.',
    { fd: name, call: z.enum(['read', 'write', 'ftruncate', 'reopen', 'ioctl', 'stat', 'link']) },
  ),
  step('export-sync-file', 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE.', { fd: name, flags: u32, as: name }),
  step('import-sync-file', 'DMA_BUF_IOCTL_IMPORT_SYNC_FILE.', { fd: name, flags: u32, sync: name }),
] as const;

/** Steps of an importer's driver, for a device by its name. */
const importerSteps = [
  step('attach', 'An importer attaches the device to a buffer.', {
    fd: name,
    device: name,
    as: name,
    kind: z.enum(['dynamic', 'static', 'no-p2p', 'no-callback']).optional(),
    /** The callback's action on live mappings: unmap, unmap and then map again, or nothing. */
    onInvalidate: z.enum(['unmap', 'keep', 'remap']).optional(),
    /** The DMA mask that the device's driver sets, in bits; 64 by default. */
    dmaBits: z.union([z.literal(32), z.literal(64)]).optional(),
  }),
  step('map', 'Maps an attachment; gives the length of each segment.', { importer: name, as: name }),
  step('unmap', 'Unmaps a mapping.', { map: name }),
  step('detach', 'Detaches an importer.', { importer: name }),
  step('pin', 'Pins the buffer for an importer.', { importer: name }),
  step('unpin', 'Unpins it.', { importer: name }),
  step('get-tph', "The hints for an importer's writes, as proposed: [steering tag, processing hint].", {
    importer: name,
    extended: z.boolean().optional(),
  }),
  step('add-fence', "Adds a fence to the buffer's reservation.", {
    importer: name,
    usage: z.enum(['kernel', 'write', 'read', 'bookkeep']),
    as: name,
  }),
  step('signal-fence', 'Signals a fence.', { fence: name }),
  step('callbacks', 'The invalidate callbacks since the last such step, each with whether a mapping was live.', {
    importer: name,
  }),
  step('callback-order', 'Whose callbacks came since the last such step, of the importers that are attached now.', {}),
  step('dma-write', "Writes by the importer's device through a mapping.", { map: name, offset: u64, bytes: hex }),
  step('dma-read', "Reads by the importer's device through a mapping.", { map: name, offset: u64, length: u32 }),
] as const;

/** Steps on I/O address spaces (linux/iommufd.h), and on devices that were opened with `cdev`. */
const ioasSteps = [
  step('ioas-alloc', 'Makes an I/O address space.', { as: name }),
  step('ioas-destroy', 'Destroys an I/O address space.', { ioas: name }),
  step('ioas-map-file', 'Maps a part of a dma-buf at an IOVA.', {
    ioas: name,
    fd: name,
    start: u64,
    length: u64,
    iova: u64,
  }),
  step('ioas-unmap', 'Unmaps a range of IOVAs.', { ioas: name, iova: u64, length: u64 }),
  step('ioas-copy', 'Copies a mapping from one address space to another.', {
    ioas: name,
    from: name,
    fromIova: u64,
    length: u64,
    iova: u64,
  }),
  step('ioas-attach', "VFIO_DEVICE_ATTACH_IOMMUFD_PT: the device's DMA goes through the address space from now on.", {
    device: name,
    ioas: name,
  }),
  step('ioas-detach', 'VFIO_DEVICE_DETACH_IOMMUFD_PT.', { device: name }),
  step('ioas-translations', "What the device's addresses mean now: [IOVA, bytes, whose memory] in order.", {
    device: name,
  }),
] as const;

/**
 * Takes a step of an open device, or of root, in a separate task, for a step that waits until a later step lets it go
 * on. The step must not make anything with a name, since a thread on a real kernel has only the device's descriptor.
 */
const startSteps = [
  /**
   * Gives 'ended', or 'blocked' if it waits for another task. EAGAIN while MAX_STARTED steps are under way. Later steps
   * of the same task come after it has ended or blocked.
   */
  step('start', "Starts a step of a device in a task of its own: 'ended', or 'blocked' where it waits.", {
    step: z.discriminatedUnion('op', [...openDeviceSteps, ...sysfsSteps]),
    as: name,
  }),
] as const;

/** Gives the result of a started step; 'blocked' while it still waits. */
const joinSteps = [step('join', "What a started step gave; 'blocked' while it still waits.", { of: name })] as const;

export const MAX_STARTED = 3;

/** A step of an open device that `start` may take. */
export type StartedDeviceStep = z.infer<(typeof openDeviceSteps)[number]>;

/** The group of each step. Each backend has one function for each group, in the file of that name. */
const GROUPS = {
  device: deviceSteps,
  mapping: mappingSteps,
  descriptor: descriptorSteps,
  importer: importerSteps,
  ioas: ioasSteps,
  sysfs: sysfsSteps,
  start: startSteps,
  join: joinSteps,
} as const;

export const stepSchema = z.discriminatedUnion('op', [
  ...GROUPS.device,
  ...GROUPS.mapping,
  ...GROUPS.descriptor,
  ...GROUPS.importer,
  ...GROUPS.ioas,
  ...GROUPS.sysfs,
  ...GROUPS.start,
  ...GROUPS.join,
]);
export type Step = z.infer<typeof stepSchema>;
export type StepOf<Op extends Step['op']> = Extract<Step, { op: Op }>;
export type StepGroup = keyof typeof GROUPS;
export type StepIn<Group extends StepGroup> = z.infer<(typeof GROUPS)[Group][number]>;

const GROUP_OF: ReadonlyMap<string, StepGroup> = new Map(
  Object.entries(GROUPS).flatMap(([group, schemas]) =>
    schemas.map((schema) => [schema.shape.op.value, group as StepGroup] as const),
  ),
);

/** Whether a step belongs to a group. */
export function isIn<Group extends StepGroup>(group: Group, step: Step): step is StepIn<Group> & Step {
  return groupOf(step) === group;
}

/** The group that a step belongs to. */
export function groupOf(step: Step): StepGroup {
  return GROUP_OF.get(step.op)!;
}

export const scenarioSchema = z.strictObject({
  scenario: name.describe('The name that runs and findings cite.'),
  description: z.string().describe('A sentence for readers.'),
  machine: z.string().describe("A machine file's path relative to the scenario, or the name of one in examples/."),
  setup: z.array(stepSchema).optional().describe('Steps that one task takes in order before the tasks start.'),
  tasks: z.record(name, z.array(stepSchema)).describe('The tasks by their names, each a list of steps.'),
  facts: z
    .array(z.number().int().positive())
    .optional()
    .describe("The numbered facts of Linux's behaviour that it shows (docs/facts.md)."),
  breaks: z
    .string()
    .regex(/^(I[1-9]|ABI)$/)
    .optional()
    .describe('The invariant of docs/invariants.md that Linux breaks here.'),
});
export type Scenario = z.infer<typeof scenarioSchema>;

/** The result of a step: a value that JSON can hold, or the refusal. */
export type StepResult = { ok: unknown } | { errno: string; message: string };

/** A 64-bit field as scenarios write it. */
export function toU64(value: number | string): bigint {
  return BigInt(value);
}
