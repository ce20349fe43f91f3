/** Tries rules on the devices of a server, one after the other, and starts the server anew after each fault. */
import type { DeviceDriver } from './drivers/driver.ts';
import { Exchange, type ExchangeEntry } from './exchange.ts';
import { type Facts, handshake, readFacts } from './facts.ts';
import type { Group, Rule } from './rule.ts';
import type { DeviceSocket, Ending, Server } from './server.ts';
import { connectPeer, Trial, type TrialTarget } from './trial.ts';
import { BROKEN, CRASHES, HANGS, HOLDS, isFault, Outcome, type Verdict, worstOf } from './verdict.ts';

/** A server whose connection ended may take a moment to end itself. */
const ENDING_MS = 1000;

export interface DeviceResult {
  device: string;
  verdict: Verdict;
  /** Why, where the verdict is another than `holds`. */
  text: string;
  /** The messages of the trial, in order. */
  exchange: readonly ExchangeEntry[];
  seconds: number;
}

export interface RuleResult {
  id: string;
  group: Group;
  says: string;
  chapter: string;
  /** The worst of the results. */
  verdict: Verdict;
  results: readonly DeviceResult[];
}

export interface ConformOptions {
  /** The longest wait for an answer. A server that answers is never waited for. */
  timeoutMs: number;
  drivers: readonly DeviceDriver[];
  /** Only the device of this name. */
  device?: string;
  onResult?(rule: Rule, result: DeviceResult): void;
}

/** Returns a result for each rule. Throws an Errno where the server does not come up, or not even VERSION works. */
export async function conformServer(
  server: Server,
  rules: readonly Rule[],
  options: ConformOptions,
): Promise<RuleResult[]> {
  const found = new Map<Rule, DeviceResult[]>(rules.map((rule) => [rule, []]));
  const names = (await server.start()).map(({ name }) => name);
  for (const name of names.filter((each) => options.device === undefined || each === options.device)) {
    const tester = new DeviceTester(server, name, options);
    await tester.prepare();
    for (const rule of rules) {
      const result = await tester.judge(rule);
      found.get(rule)!.push(result);
      options.onResult?.(rule, result);
    }
  }
  return rules.map((rule) => {
    const results = found.get(rule)!;
    const { id, group, says, chapter } = rule;
    return { id, group, says, chapter, verdict: worstOf(results.map(({ verdict }) => verdict)), results };
  });
}

class DeviceTester {
  private readonly server: Server;
  private readonly name: string;
  private readonly options: ConformOptions;
  private facts: Facts | null = null;
  private driver: DeviceDriver | null = null;

  constructor(server: Server, name: string, options: ConformOptions) {
    this.server = server;
    this.name = name;
    this.options = options;
  }

  async prepare(): Promise<void> {
    const target = await this.target();
    const peer = connectPeer(target, new Exchange(), 1);
    try {
      this.facts = readFacts(peer);
    } finally {
      peer.close();
    }
    this.driver = this.options.drivers.find((driver) => driver.matches(this.facts!)) ?? null;
    await this.settle(target, new Exchange());
  }

  /** Tries the rule. A fault counts only where a fresh server shows it too. */
  async judge(rule: Rule): Promise<DeviceResult> {
    const first = await this.attempt(rule);
    if (!isFault(first.verdict) || !this.server.canRestart) return first;
    await this.server.stop();
    const second = await this.attempt(rule);
    if (isFault(second.verdict)) await this.server.stop();
    return second;
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
      if (!(error instanceof Outcome)) throw error;
      verdict = error.verdict;
      text = error.message;
    } finally {
      trial.close();
    }
    const after = await this.settle(target, trial.exchange);
    // A crash explains a broken rule, and a server that serves nobody any more is worse than one wrong answer.
    if (after !== null && (after.verdict === CRASHES || !isFault(verdict) || verdict === BROKEN)) {
      text = text === '' ? after.message : `${text}; ${after.message}`;
      verdict = after.verdict;
    }
    const seconds = (performance.now() - started) / 1000;
    return { device: this.name, verdict, text, exchange: trial.exchange.entries, seconds };
  }

  private async target(): Promise<TrialTarget> {
    const devices: readonly DeviceSocket[] = await this.server.start();
    const { path } = devices.find(({ name }) => name === this.name)!;
    return { socket: path, timeoutMs: this.options.timeoutMs };
  }

  /** Waits until the server takes the next client, or has ended in good order. Returns the fault otherwise. */
  private async settle(target: TrialTarget, exchange: Exchange): Promise<Outcome | null> {
    const deadline = performance.now() + target.timeoutMs;
    for (;;) {
      let why: string;
      try {
        const peer = connectPeer({ ...target, timeoutMs: target.timeoutMs }, new Exchange(), 0);
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

function crashOf({ how, isClean, output }: Ending, exchange: Exchange): Outcome | null {
  exchange.event(0, `the server's process ended: ${how}`);
  if (isClean) return null;
  const last = output.split('\n').at(-1) ?? '';
  return new Outcome(CRASHES, `the server's process ended with ${how}${last === '' ? '' : `: ${last}`}`);
}
