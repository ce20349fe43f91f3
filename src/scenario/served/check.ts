/** Finds the steps of a scenario that vfio-user cannot express, before its first step. */
import { describeStep } from '../run.ts';
import { groupOf, type Scenario, type Step } from '../step.ts';

/** A step that cannot run on served devices. */
export class UnsupportedStepError extends Error {
  constructor(step: Step, why: string, where = 'a step') {
    super(`${where} cannot run over vfio-user: ${describeStep(step)}: ${why}`);
    this.name = 'UnsupportedStepError';
  }
}

const BESIDE = 'the client of a device does one thing after the other';
const ONE_ADDRESS_SPACE = 'a server has one address space for each client';
const NO_SYSFS = 'a served device is not in sysfs';
const ELSEWHERE = 'the exporter is another process, and its socket has nothing for it';

/** Ops that served devices never support, and the reason. */
const NEVER: Partial<Record<Step['op'], string>> = {
  'sysfs-reset': NO_SYSFS,
  'sysfs-reset-subordinate': NO_SYSFS,
  'sysfs-config-read': NO_SYSFS,
  'sysfs-config-write': NO_SYSFS,
  'sysfs-power-control': NO_SYSFS,
  'sysfs-d3cold-allowed': NO_SYSFS,
  'sysfs-unbind': NO_SYSFS,
  'sysfs-remove': NO_SYSFS,
  'sysfs-rescan': NO_SYSFS,
  'sysfs-bind': NO_SYSFS,
  'sysfs-numvfs': NO_SYSFS,
  'aer-inject': NO_SYSFS,
  start: BESIDE,
  join: BESIDE,
  pin: 'importers of other processes are dynamic',
  unpin: 'importers of other processes are dynamic',
  'get-tph': ELSEWHERE,
  'add-fence': 'a revoke would wait for the scenario, which waits for the revoke',
  'signal-fence': 'a revoke would wait for the scenario, which waits for the revoke',
  'callback-order': ELSEWHERE,
  'mmap-fd': 'the descriptor is a socket',
  sync: 'the descriptor is a socket',
  'fd-call': 'the descriptor is a socket',
  'export-sync-file': ELSEWHERE,
  'import-sync-file': ELSEWHERE,
};

/** Throws for a step that `checkForVfioUser` refuses, if the caller did not call it before. */
export function unsupported(step: Step): never {
  throw new UnsupportedStepError(step, NEVER[step.op] ?? ONE_ADDRESS_SPACE);
}

/** Throws for the first step, in the order of the file, that served devices cannot take. */
export function checkForVfioUser(scenario: Scenario): void {
  const check = new Check();
  for (const [task, steps] of Object.entries({ setup: scenario.setup ?? [], ...scenario.tasks })) {
    for (const [index, step] of steps.entries()) {
      const why = check.whyNot(step);
      if (why !== null) throw new UnsupportedStepError(step, why, `step ${index + 1} of ${task}`);
    }
  }
}

class Check {
  private readonly open = new Set<string>();
  /**
   * Whether each importer is a device with a client, which borrows by DMA_MAP. The others are sessions with the
   * exporter.
   */
  private readonly borrowers = new Map<string, boolean>();
  private readonly maps = new Map<string, string>();

  whyNot(step: Step): string | null {
    if (groupOf(step) === 'ioas') return ONE_ADDRESS_SPACE;
    switch (step.op) {
      case 'open':
        if (step.vfToken !== undefined) return 'the protocol has no VF token at open';
        if (this.open.has(step.device)) return 'a device has one client';
        this.open.add(step.device);
        return null;
      case 'close':
        this.open.delete(step.device);
        return null;
      case 'set-irqs': {
        // A message carries a descriptor for each of its interrupts, or none.
        const events = new Set(step.events?.map((event) => (event === null ? 'null' : typeof event)) ?? []);
        return events.size > 1 || events.has('number') ? 'a message has eventfds alone, or none' : null;
      }
      case 'attach':
        this.borrowers.set(step.as, this.open.has(step.device));
        if ((step.kind ?? 'dynamic') !== 'dynamic') return 'importers of other processes are dynamic';
        if (step.dmaBits === 32) return 'an exporter asks nobody for a DMA mask';
        return (step.onInvalidate ?? 'unmap') === 'unmap'
          ? null
          : 'an importer that keeps its mappings is disconnected';
      case 'map':
        this.maps.set(step.as, step.importer);
        return null;
      case 'callbacks':
        return this.borrowers.get(step.importer) === true ? 'a device does not tell its client of revokes' : null;
      case 'dma-read':
      case 'dma-write':
        return this.borrowers.get(this.maps.get(step.map) ?? '') === false
          ? 'the device of the importer is not open'
          : null;
      default:
        return NEVER[step.op] ?? null;
    }
  }
}
