/** The commands of random programs: the form of a step before its objects have names. */
export const PAGE = 4096;

/** A command without names. Its numbers choose among the objects that exist when it runs. */
export interface ProgramCommand {
  verb: ProgramVerb;
  a: number;
  b: number;
  c: number;
}

/** How often each verb comes, relative to the others. */
export const WEIGHTS = {
  open: 2,
  close: 2,
  memory: 12,
  power: 8,
  flr: 3,
  reset: 3,
  'hot-reset': 2,
  'low-power': 7,
  'config-read': 5,
  'config-write': 4,
  'cap-read': 5,
  'cap-write': 4,
  'region-info': 2,
  'irq-info': 2,
  info: 1,
  'region-read': 4,
  'region-write': 3,
  mmap: 4,
  'mmap-read': 6,
  munmap: 2,
  'set-irqs': 7,
  feature: 5,
  export: 16,
  'bad-export': 8,
  'close-fd': 5,
  'dup-fd': 3,
  lseek: 3,
  'mmap-fd': 1,
  'set-name': 2,
  sync: 3,
  poll: 4,
  fdinfo: 3,
  'export-sync-file': 3,
  'import-sync-file': 2,
  attach: 14,
  map: 16,
  unmap: 7,
  detach: 5,
  pin: 2,
  fence: 6,
  signal: 5,
  callbacks: 8,
} as const;
export type ProgramVerb = keyof typeof WEIGHTS;
