/**
 * The language of scenarios: named tasks, each a list of steps. A step is one system call, or one thing that an
 * importer does, and gives the same kind of result on the engine, over vfio-user and on a real kernel.
 */
import * as z from 'zod';

const name = z.string().regex(/^[A-Za-z][\w.-]*$/, 'a name starts with a letter and has letters, digits, . _ -');
const u32 = z.number().int().min(0).max(0xffffffff);
const u64 = z.union([z.number().int().min(0), z.string().regex(/^(0x[0-9a-fA-F]{1,16}|\d{1,20})$/)]);
const hex = z.string().regex(/^([0-9a-fA-F]{2})*$/, 'bytes are pairs of hexadecimal digits');
/** Negative, or more than a process has. */
const noDescriptor = z.union([z.int32().max(-2), z.int32().min(1 << 30)]);
const size = z.union([z.literal(1), z.literal(2), z.literal(4)]);

/**
 * Every step may say what it must give: `expect` a value, or the name of an errno (or SIGBUS); `linux` the same where
 * Linux 7.3, and the profile that behaves as it does, give something else.
 */
function step<Op extends string, Shape extends z.ZodRawShape>(op: Op, shape: Shape) {
  return z.strictObject({ op: z.literal(op), expect: z.json().optional(), linux: z.json().optional(), ...shape });
}

/** On an open device by its name in the machine. They make nothing that has a name. */
const openDeviceSteps = [
  step('close', { device: name }),
  step('info', { device: name }),
  step('region-info', { device: name, region: u32 }),
  step('irq-info', { device: name, index: u32 }),
  step('config-read', { device: name, offset: u32, size }),
  step('config-write', { device: name, offset: u32, size, value: u32 }),
  /** Finds a capability by id and reads or writes relative to it; `ext` for extended ones. */
  step('cap-read', { device: name, cap: u32, ext: z.boolean().optional(), offset: u32, size }),
  step('cap-write', { device: name, cap: u32, ext: z.boolean().optional(), offset: u32, size, value: u32 }),
  step('memory', { device: name, on: z.boolean() }),
  step('power', { device: name, state: z.number().int().min(0).max(3) }),
  step('flr', { device: name }),
  step('af-flr', { device: name }),
  step('reset', { device: name }),
  /** With the descriptors of the open groups that it hits, or of the first few that are open. */
  step('hot-reset', { device: name, groups: u32.optional() }),
  step('hot-reset-info', { device: name }),
  step('low-power-entry', { device: name }),
  step('low-power-exit', { device: name }),
  step('region-read', { device: name, region: u32, offset: u64, length: u32 }),
  step('region-write', { device: name, region: u32, offset: u64, bytes: hex }),
] as const;

/** On a device by its name in the machine. */
const deviceSteps = [
  ...openDeviceSteps,
  /** By its group; with `cdev` by its own node, for the iommufd, which address spaces want. */
  step('open', { device: name, vfToken: hex.optional(), cdev: z.boolean().optional() }),
  step('low-power-entry-with-wakeup', { device: name, as: name }),
  step('mmap', { device: name, region: u32, offset: u64, length: u64, as: name }),
  step('set-irqs', {
    device: name,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    /** For eventfd data: names to make eventfds under, null for -1, or the number of what is no descriptor. */
    events: z.array(z.union([name, z.null(), noDescriptor])).optional(),
    bools: z.array(z.number().int().min(0).max(255)).optional(),
  }),
  /**
   * The raw VFIO_DEVICE_FEATURE: `payload` is what lies behind the header in memory, `argsz` what the header claims.
   */
  step('feature', {
    device: name,
    flags: u32,
    argsz: u32,
    payload: hex,
    /** How many bytes of the header can be read; all 8 by default. */
    headerBytes: u32.max(8).optional(),
    as: name.optional(),
  }),
  step('export', {
    device: name,
    region: u32,
    ranges: z.array(z.tuple([u64, u64])),
    openFlags: u32.optional(),
    flags: u32.optional(),
    /** What the header claims, when not the number of ranges: what is missing cannot be read. */
    nrRanges: u32.optional(),
    as: name.optional(),
  }),
] as const;

/** On what a device's steps have made. */
const mappingSteps = [
  step('mmap-read', { map: name, offset: u64, length: u32 }),
  step('mmap-write', { map: name, offset: u64, bytes: hex }),
  step('munmap', { map: name }),
  step('event-count', { event: name }),
] as const;

/** On the descriptor of a dma-buf or a sync file, by the name that a step gave it. */
const descriptorSteps = [
  step('close-fd', { fd: name }),
  step('dup-fd', { fd: name, as: name }),
  step('lseek', { fd: name, offset: z.number().int(), whence: u32 }),
  step('mmap-fd', { fd: name }),
  step('set-name', { fd: name, name: z.string() }),
  step('sync', { fd: name, flags: u32 }),
  step('poll', { fd: name }),
  step('fdinfo', { fd: name }),
  /** What the rest of the system calls on a descriptor give: `stat` size and mode, `link` where /proc/self/fd points. */
  step('fd-call', { fd: name, call: z.enum(['read', 'write', 'ftruncate', 'reopen', 'ioctl', 'stat', 'link']) }),
  step('export-sync-file', { fd: name, flags: u32, as: name }),
  step('import-sync-file', { fd: name, flags: u32, sync: name }),
] as const;

/** What an importer's driver does, for a device by its name. */
const importerSteps = [
  step('attach', {
    fd: name,
    device: name,
    as: name,
    kind: z.enum(['dynamic', 'static', 'no-p2p', 'no-callback']).optional(),
    /** What the callback does with live mappings: unmap, unmap and then map again, or nothing. */
    onInvalidate: z.enum(['unmap', 'keep', 'remap']).optional(),
    /** The DMA mask that the driver of the device sets: how many bits of address it has. 64 where nothing is said. */
    dmaBits: z.union([z.literal(32), z.literal(64)]).optional(),
  }),
  step('map', { importer: name, as: name }),
  step('unmap', { map: name }),
  step('detach', { importer: name }),
  step('pin', { importer: name }),
  step('unpin', { importer: name }),
  step('add-fence', { importer: name, usage: z.enum(['kernel', 'write', 'read', 'bookkeep']), as: name }),
  step('signal-fence', { fence: name }),
  /** The invalidate callbacks since the last such step, each with whether a mapping was live. */
  step('callbacks', { importer: name }),
  /** Whose callbacks came since the last such step, of the importers that are attached now, in order. */
  step('callback-order', {}),
  /** DMA by the importer's device through a mapping. */
  step('dma-write', { map: name, offset: u64, bytes: hex }),
  step('dma-read', { map: name, offset: u64, length: u32 }),
] as const;

/** On I/O address spaces (linux/iommufd.h), and on devices that were opened with `cdev`. */
const ioasSteps = [
  step('ioas-alloc', { as: name }),
  step('ioas-destroy', { ioas: name }),
  step('ioas-map-file', { ioas: name, fd: name, start: u64, length: u64, iova: u64 }),
  step('ioas-unmap', { ioas: name, iova: u64, length: u64 }),
  step('ioas-copy', { ioas: name, from: name, fromIova: u64, length: u64, iova: u64 }),
  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT: the device's DMA goes through the address space from now on. */
  step('ioas-attach', { device: name, ioas: name }),
  step('ioas-detach', { device: name }),
  /** What the device's addresses mean now: [IOVA, bytes, whose memory] in order, without what is not mapped. */
  step('ioas-translations', { device: name }),
] as const;

/**
 * Takes a step of an open device in a task of its own: for a step that waits until a later one lets it go on. It can be
 * none that makes something with a name, since a thread of a real kernel has the device's descriptor alone.
 */
const startSteps = [
  /**
   * Gives 'ended', or 'blocked' where it waits for somebody. EAGAIN while as many are under way as MAX_STARTED. Later
   * steps of the same task come when it has gone as far as it can.
   */
  step('start', { step: z.discriminatedUnion('op', openDeviceSteps), as: name }),
] as const;

/** Gives the result of a started step; 'blocked' while it still waits. */
const joinSteps = [step('join', { of: name })] as const;

export const MAX_STARTED = 3;

/** Which step belongs to which group. Each backend has one function for each group, in the file of that name. */
const GROUPS = {
  device: deviceSteps,
  mapping: mappingSteps,
  descriptor: descriptorSteps,
  importer: importerSteps,
  ioas: ioasSteps,
  start: startSteps,
  join: joinSteps,
} as const;

export const stepSchema = z.discriminatedUnion('op', [
  ...GROUPS.device,
  ...GROUPS.mapping,
  ...GROUPS.descriptor,
  ...GROUPS.importer,
  ...GROUPS.ioas,
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

/** Which group a step belongs to. */
export function groupOf(step: Step): StepGroup {
  return GROUP_OF.get(step.op)!;
}

export const scenarioSchema = z.strictObject({
  scenario: name,
  description: z.string(),
  /** A machine file's path relative to the scenario, or the name of one in examples/. */
  machine: z.string(),
  /** Done in order before the tasks start, by one task. */
  setup: z.array(stepSchema).optional(),
  tasks: z.record(name, z.array(stepSchema)),
  /** The numbered facts of Linux's behaviour that it shows (lab/facts/). */
  facts: z.array(z.number().int().positive()).optional(),
  /** The invariant of docs/invariants.md that Linux breaks here (lab/findings/). */
  breaks: z
    .string()
    .regex(/^(I[1-9]|ABI)$/)
    .optional(),
});
export type Scenario = z.infer<typeof scenarioSchema>;

/** What a step gave: a value that JSON can hold, or the refusal. */
export type StepResult = { ok: unknown } | { errno: string; message: string };

/** A 64-bit field as scenarios write it. */
export function toU64(value: number | string): bigint {
  return BigInt(value);
}
