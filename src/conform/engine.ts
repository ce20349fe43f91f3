/** Tries rules on the devices of a server, one after the other, and starts the server anew after each fault. */
import { Errno } from '../abi/errno.ts';
import type { DeviceDriver } from './drivers/driver.ts';
import { type ExchangeEntry, TrialLog } from './exchange.ts';
import { type Facts, handshake, readFacts } from './facts.ts';
import type { Group, Rule } from './rule.ts';
import type { DeviceSocket, Ending, JudgedServer } from './server.ts';
import { connectPeer, Trial, type TrialTarget } from './trial.ts';
import {
  BROKEN,
  CRASHES,
  HANGS,
  HOLDS,
  isFault,
  NOT_APPLICABLE,
  NoServiceOutcome,
  Outcome,
  type Verdict,
  worstOf,
} from './verdict.ts';

/** A server whose connection ended may take a moment to end itself. */
const ENDING_MS = 1000;

/** One trial of a rule. */
export interface TrialResult<Of extends string> {
  device: string;
  verdict: Of;
  /** Why, where the verdict is another than `holds`. */
  text: string;
  /** The messages of the trial, in order. */
  exchange: readonly ExchangeEntry[];
  seconds: number;
}

export type DeviceResult = TrialResult<Verdict>;

export interface RuleResult {
  id: string;
  group: Group;
  says: string;
  chapter: string;
  /** The worst of the results. */
  verdict: Verdict;
  isFault: boolean;
  /** One for each device on which the rule was tried. */
  results: readonly DeviceResult[];
}

export interface Progress {
  done: number;
  /** Of the devices that are known so far. */
  of: number;
  faults: number;
}

export interface ConformOptions {
  /** The longest wait for an answer. A server that answers is never waited for. */
  timeoutMs: number;
  drivers: readonly DeviceDriver[];
  /** Only the device of this name. */
  device?: string;
  /** Ends the trials after the present one; the result has the rules that were tried. */
  signal?: AbortSignal;
  onProgress?(progress: Progress): void;
}

/**
 * Returns a result for each rule that was tried. Throws an Errno where the server does not come up, and an Outcome
 * where not even VERSION works.
 */
export async function conformServer(
  server: JudgedServer,
  rules: readonly Rule[],
  options: ConformOptions,
): Promise<RuleResult[]> {
  const found = new Map<Rule, DeviceResult[]>(rules.map((rule) => [rule, []]));
  const names = namesOf(await server.start(), options.device);
  const progress: Progress = { done: 0, of: names.length * rules.length, faults: 0 };
  for (const name of names) {
    const tester = new DeviceTester(server, name, options);
    await tester.prepare();
    for (const rule of rules) {
      if (options.signal?.aborted === true) break;
      const result = await tester.judge(rule);
      found.get(rule)!.push(result);
      progress.done += 1;
      if (isFault(result.verdict)) progress.faults += 1;
      options.onProgress?.(progress);
    }
  }
  return rules
    .filter((rule) => found.get(rule)!.length > 0)
    .map((rule) => {
      const results = found.get(rule)!;
      const { id, group, says, chapter } = rule;
      const verdict = worstOf(results.map((result) => result.verdict));
      return { id, group, says, chapter, verdict, isFault: isFault(verdict), results };
    });
}

function namesOf(devices: readonly DeviceSocket[], wanted: string | undefined): string[] {
  const names = devices.map(({ name }) => name);
  if (wanted === undefined) return names;
  if (!names.includes(wanted))
    throw new Errno('ENODEV', `there is no device ${wanted}; there are: ${names.join(', ')}`);
  return [wanted];
}

class DeviceTester {
  private readonly server: JudgedServer;
  private readonly name: string;
  private readonly options: ConformOptions;
  private facts: Facts | null = null;
  private driver: DeviceDriver | null = null;
  /** The rule after which a server that cannot be started anew was gone. */
  private lastRule: string | null = null;

  constructor(server: JudgedServer, name: string, options: ConformOptions) {
    this.server = server;
    this.name = name;
    this.options = options;
  }

  async prepare(): Promise<void> {
    const target = await this.target();
    const peer = connectPeer(target, new TrialLog(), 1);
    // Rules of their own are about ids. A server that breaks them has facts nevertheless.
    peer.checksIds = false;
    try {
      this.facts = readFacts(peer);
    } finally {
      peer.close();
    }
    this.driver = this.options.drivers.find((driver) => driver.matches(this.facts!)) ?? null;
    await this.settle(target, new TrialLog());
  }

  /** Tries the rule. A fault counts only where a fresh server shows it too. */
  async judge(rule: Rule): Promise<DeviceResult> {
    if (this.lastRule !== null) return this.untried(this.lastRule);
    const first = await this.attempt(rule);
    if (!isFault(first.verdict) || !this.server.canRestart) return first;
    await this.server.stop();
    const second = await this.attempt(rule);
    if (isFault(second.verdict)) await this.server.stop();
    return second;
  }

  private untried(since: string): DeviceResult {
    const text = `not tried: the server serves nobody since ${since}, and --socket cannot start it anew`;
    return { device: this.name, verdict: NOT_APPLICABLE, text, exchange: [], seconds: 0 };
  }

  private async attempt(rule: Rule): Promise<DeviceResult> {
    const started = performance.now();
    const target = await this.target();
    const trial = new Trial(target, this.facts!, this.driver);
    let verdict: Verdict = HOLDS;
    let text = '';
    try {
      rule.check(trial);
    } catch (error) {
      const outcome = outcomeOf(error);
      const isGone = outcome instanceof NoServiceOutcome && trial.connections > 1 && (await this.endedCleanly());
      verdict = isGone ? NOT_APPLICABLE : outcome.verdict;
      text = isGone ? 'the server ends with its first client' : outcome.message;
    } finally {
      trial.close();
    }
    const after = await this.settle(target, trial.exchange);
    if (after !== null && !this.server.canRestart) this.lastRule = rule.id;
    // A crash explains a broken rule, and a server that serves nobody any more is worse than one wrong answer.
    if (after !== null && (after.verdict === CRASHES || !isFault(verdict) || verdict === BROKEN)) {
      text = text === '' ? after.message : `${text}; ${after.message}`;
      verdict = after.verdict;
    }
    const seconds = (performance.now() - started) / 1000;
    return { device: this.name, verdict, text, exchange: trial.exchange.entries, seconds };
  }

  private async endedCleanly(): Promise<boolean> {
    return (await this.server.ending(ENDING_MS))?.isClean === true;
  }

  private async target(): Promise<TrialTarget> {
    const devices: readonly DeviceSocket[] = await this.server.start();
    const { path } = devices.find(({ name }) => name === this.name)!;
    return { socket: path, timeoutMs: this.options.timeoutMs };
  }

  /** Waits until the server takes the next client, or has ended in good order. Returns the fault otherwise. */
  private async settle(target: TrialTarget, exchange: TrialLog): Promise<Outcome | null> {
    const deadline = performance.now() + target.timeoutMs;
    for (;;) {
      let why: string;
      try {
        const peer = connectPeer(target, new TrialLog(), 0);
        try {
          handshake(peer);
          const ending = await this.server.ending(0);
          if (ending === null) return null;
          return crashOf(ending, exchange);
        } finally {
          peer.close();
        }
      } catch (error) {
        if (!(error instanceof Outcome)) throw error;
        why = error.message;
      }
      const ending = await this.server.ending(ENDING_MS);
      if (ending !== null) return crashOf(ending, exchange);
      if (performance.now() > deadline) {
        await this.server.stop();
        return new Outcome(HANGS, `the server serves no new client afterwards: ${why}`);
      }
    }
  }
}

/** The outcome that ended a check. Rules read replies at fixed places, so a reply that is too short is a RangeError. */
function outcomeOf(error: unknown): Outcome {
  if (error instanceof Outcome) return error;
  if (error instanceof RangeError) return new Outcome(BROKEN, 'a reply ends before a field that the rule reads');
  throw error;
}

function crashOf({ how, isClean, output }: Ending, exchange: TrialLog): Outcome | null {
  exchange.event(0, `the server's process ended: ${how}`);
  if (isClean) return null;
  const last = output.split('\n').at(-1) ?? '';
  return new Outcome(CRASHES, `the server's process ended with ${how}${last === '' ? '' : `: ${last}`}`);
}
