/** barter lab diff: the same programs on the engine and on the kernel of the guest, compared result by result. */
import fc from 'fast-check';
import { loadMachine, parseMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { Step } from '../../src/scenario/step.ts';
import { CommandError } from '../command.ts';
import { Guest, guestAddress } from '../guest.ts';
import type { KernelReport } from '../kernel-reports.ts';
import type { KernelName } from '../kernels.ts';
import { Served } from '../runs/run.ts';
import { type Difference, firstDifference, programScenario, withoutBlocking } from './compare.ts';
import { APART, LENDERS, type Lender } from './lenders.ts';
import { prefix, programs } from './program.ts';

const MOST_STEPS = 40;
const CALL_TIMEOUT_MS = 30_000;
/** Of one lender; more of the same kind tell nothing new. */
const MOST_DIFFERENCES = 10;

export interface DiffOptions {
  seed: number;
  /** Over all lenders together. */
  steps: number;
  lenders: readonly string[];
  kernel: KernelName;
  leakCheck: boolean;
  /** Hears how many steps are done. */
  onProgress: (lender: string, steps: number, differences: number) => void;
}

export interface FoundDifference extends Difference {
  lender: string;
  /** The shortest program that was found to differ. */
  program: Step[];
}

export interface DiffResult {
  seed: number;
  kernel: string;
  steps: number;
  agree: number;
  programs: number;
  differences: FoundDifference[];
  /** What the kernel complained of meanwhile. */
  reports: KernelReport[];
}

export async function labDiff(options: DiffOptions): Promise<DiffResult> {
  const { seed } = options;
  const result: DiffResult = { seed, kernel: '', steps: 0, agree: 0, programs: 0, differences: [], reports: [] };
  const lenders = LENDERS.filter((lender) => options.lenders.includes(lender.name));
  for (const [i, lender] of lenders.entries()) {
    const bench = await Bench.start(lender, options);
    try {
      result.kernel = bench.kernel;
      await compareMany(bench, options, Math.ceil(options.steps / lenders.length), options.seed + i, result);
    } finally {
      result.reports.push(...(await bench.stop()));
    }
  }
  return result;
}

async function compareMany(
  bench: Bench,
  options: DiffOptions,
  wanted: number,
  seed: number,
  result: DiffResult,
): Promise<void> {
  const arbitrary = programs(bench.lender.traits, MOST_STEPS);
  let steps = 0;
  let differences = 0;
  // One value after the other of the same seed: a run can be repeated, and a longer one begins with it.
  const source = fc.sample(arbitrary, { seed, numRuns: Math.ceil(wanted / 4) });
  for (const raw of source) {
    if (steps >= wanted || differences >= MOST_DIFFERENCES) break;
    const { program, difference } = await bench.compare(raw);
    steps += program.length;
    result.steps += program.length;
    result.programs += 1;
    if (difference === null) result.agree += program.length;
    else {
      differences += 1;
      result.agree += difference.index;
      result.differences.push(await bench.shrink(program.slice(0, difference.index + 1), difference));
    }
    options.onProgress(bench.lender.name, steps, differences);
  }
}

/** One guest with one lender, and the same lender on the engine: as the guest's own sysfs shows it. */
class Bench {
  readonly lender: Lender;
  readonly kernel: string;
  private readonly description: MachineDescription;
  private guest: Guest;
  private readonly served: Served;
  private readonly options: GuestChoice;
  private readonly reports: KernelReport[] = [];

  private constructor(
    lender: Lender,
    options: GuestChoice,
    served: Served,
    guest: Guest,
    kernel: string,
    description: MachineDescription,
  ) {
    this.lender = lender;
    this.options = options;
    this.served = served;
    this.guest = guest;
    this.kernel = kernel;
    this.description = description;
  }

  static async start(lender: Lender, options: GuestChoice): Promise<Bench> {
    const served = await Served.start(lender.machine ?? APART);
    try {
      const { guest, release } = await boot(lender, options, served);
      const address = guestAddress(0);
      const captured = await guest.call('capture', { addresses: [address] });
      return new Bench(lender, options, served, guest, release, describe(parseMachine(captured[address], address)));
    } catch (error) {
      await served.stop();
      throw error;
    }
  }

  /** Runs a program on both. What the engine says would block is left out of it. */
  async compare(raw: readonly Step[]): Promise<{ program: Step[]; difference: Difference | null }> {
    const { steps: program, result: engine } = withoutBlocking(this.description, raw);
    const addresses = { lender: guestAddress(0), borrower: guestAddress(1) };
    try {
      const scenario = programScenario(program);
      const kernel = await this.guest.call('scenario', { scenario, addresses }, CALL_TIMEOUT_MS);
      return { program, difference: firstDifference(program, engine, kernel) };
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      // The kernel blocks where the engine does not, or the guest died: the next program wants a guest that lives.
      const tail = error.message.split('\n').slice(-3).join(' | ');
      await this.stopGuest();
      this.guest = (await boot(this.lender, this.options, this.served)).guest;
      const last = program.length - 1;
      return { program, difference: { index: last, op: 'the program', engine: 'ends', kernel: tail } };
    }
  }

  /** Leaves out one step after the other while a difference stays. */
  async shrink(program: readonly Step[], difference: Difference): Promise<FoundDifference> {
    let shortest = { program: [...program], difference };
    const kept = prefix(this.lender.traits).length;
    for (let i = shortest.program.length - 2; i >= kept; i--) {
      const without = shortest.program.filter((_, at) => at !== i);
      const tried = await this.compare(without);
      if (tried.difference === null) continue;
      const cut = tried.program.slice(0, tried.difference.index + 1);
      if (cut.length > shortest.program.length) continue;
      shortest = { program: cut, difference: tried.difference };
      i = Math.min(i, cut.length - 1);
    }
    return { lender: this.lender.name, ...shortest.difference, program: shortest.program };
  }

  /** What all of its guests complained of. */
  async stop(): Promise<readonly KernelReport[]> {
    await this.stopGuest();
    await this.served.stop();
    return this.reports;
  }

  private async stopGuest(): Promise<void> {
    await this.guest.stop();
    this.reports.push(...this.guest.reports);
  }
}

type GuestChoice = Pick<DiffOptions, 'kernel' | 'leakCheck'>;

async function boot(lender: Lender, choice: GuestChoice, served: Served): Promise<{ guest: Guest; release: string }> {
  const first = lender.device ?? served.qemuDevice('lender');
  const devices = [first, served.qemuDevice('borrower')];
  const guest = await Guest.boot({ devices, extra: lender.extra, kernel: choice.kernel, leakCheck: choice.leakCheck });
  try {
    const { release } = await guest.call('hello', {});
    await guest.call('bind', { addresses: [guestAddress(0)] });
    return { guest, release };
  } catch (error) {
    await guest.stop();
    throw error;
  }
}

/** The captured lender in the place of the one of the machine, so that both sides have the same registers. */
function describe(captured: MachineDescription): MachineDescription {
  const apart = loadMachine(APART);
  const [lender, borrower] = apart.devices;
  const [device] = captured.devices;
  return { ...apart, devices: [{ ...device, name: lender.name, port: lender.port }, borrower] };
}
