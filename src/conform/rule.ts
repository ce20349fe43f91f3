/** A rule of the protocol: a sentence, the chapter that it rests on, and the check that tries it on a server. */
import type { RawPeer } from './peer.ts';
import type { Trial } from './trial.ts';

/** The groups, in the order of a report. */
export const GROUPS = {
  header: 'header and framing',
  version: 'VERSION',
  info: 'device info',
  region: 'region info and capabilities',
  access: 'region access',
  multi: 'WRITE_MULTI',
  iofds: 'io_fds',
  irq: 'IRQs',
  map: 'DMA map and unmap',
  dma: 'DMA_READ and DMA_WRITE',
  feature: 'features',
  migration: 'migration',
  log: 'dirty log',
  reset: 'reset and disconnect',
  config: 'config against info',
} as const;
export type Group = keyof typeof GROUPS;

export interface Rule {
  /** `group.name`, stable. */
  id: string;
  group: Group;
  /** The rule in Barter's own words. */
  says: string;
  /** The chapter of the vfio-user protocol, or the header or specification that it follows. */
  chapter: string;
  /** Returns where the rule holds; otherwise throws an Outcome (verdict.ts). */
  check: (trial: Trial) => void;
}

/** Returns a function that declares rules of one group. Its `chapter` is that of a rule that names none. */
export function rulesOf(group: Group, chapter: string) {
  return (name: string, says: string, check: (trial: Trial) => void, where = chapter): Rule => ({
    id: `${group}.${name}`,
    group,
    says,
    chapter: where,
    check,
  });
}

/**
 * Returns a function that declares checks: the server refuses a wrong request, and the connection goes on. `connect`
 * makes the connection, and has what the rules need of the device.
 */
export function refusalsOf(command: number, connect = (trial: Trial): RawPeer => trial.ready()) {
  return (what: string, payload: Uint8Array | ((trial: Trial) => Uint8Array)) =>
    (trial: Trial): void => {
      const peer = connect(trial);
      peer.refused(what, command, typeof payload === 'function' ? payload(trial) : payload);
      trial.stillServes(peer);
    };
}
