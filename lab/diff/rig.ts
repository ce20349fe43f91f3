/** One guest with a lender's devices, and the same devices on the engine, described by the guest's sysfs. */
import { loadMachine, parseMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Step } from '../../src/scenario/step.ts';
import { CommandError } from '../host/command.ts';
import { Guest } from '../host/guest.ts';
import type { Accel } from '../host/machine.ts';
import type { LabKernel } from '../kernel/kernel.ts';
import type { KernelReport } from '../kernel/reports.ts';
import { Served } from '../runs/run.ts';
import { withStarted } from './blocking.ts';
import { type Difference, firstDifference, programScenario } from './compare.ts';
import { LAB_MACHINE, type LenderSetup } from './lenders.ts';
import { IOAS_PREFIX } from './program/ioas.ts';
import { prefix } from './program/program.ts';

const CALL_TIMEOUT_MS = 60_000;

/** The guest's kernel, and whether the guest looks for leaks. */
export interface GuestChoice {
  kernel: LabKernel;
  accel: Accel;
  leakCheck: boolean;
  /** Called with each part of the console of each guest. */
  onConsole?: ((part: Buffer) => void) | undefined;
}

export interface Compared {
  program: Step[];
  /** The kernel's result; null if the program did not end. */
  kernel: RunResult | null;
  difference: Difference | null;
}

export class GuestRig {
  readonly lender: LenderSetup;
  readonly kernel: string;
  /** The lender's devices and the borrower, with their registers in the guest. */
  readonly description: MachineDescription;
  private guest: Guest;
  private readonly served: Served;
  private readonly choice: GuestChoice;
  private readonly reports: KernelReport[] = [];

  private constructor(
    lender: LenderSetup,
    choice: GuestChoice,
    served: Served,
    guest: Guest,
    kernel: string,
    description: MachineDescription,
  ) {
    this.lender = lender;
    this.choice = choice;
    this.served = served;
    this.guest = guest;
    this.kernel = kernel;
    this.description = description;
  }

  static async start(lender: LenderSetup, choice: GuestChoice): Promise<GuestRig> {
    const served = await Served.start(LAB_MACHINE);
    try {
      const guest = await boot(lender, choice, served);
      const { release } = await guest.call('hello', {});
      const captured = await guest.call('capture', { addresses: lender.devices.map(({ address }) => address) });
      return new GuestRig(lender, choice, served, guest, release, describe(lender, captured));
    } catch (error) {
      await served.stop();
      throw error;
    }
  }

  /** Runs a program on both. A step that would block on the engine is started as a task of its own. */
  async compare(raw: readonly Step[]): Promise<Compared> {
    const { steps: program, result: engine } = withStarted(this.description, raw);
    try {
      const kernel = await this.runOnKernel(program);
      return { program, kernel, difference: firstDifference(program, engine, kernel) };
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      // The kernel blocks where the engine does not, or the guest died. The next program needs a new guest.
      const tail = error.message.split('\n').slice(-3).join(' | ');
      await this.stopGuest();
      this.guest = await boot(this.lender, this.choice, this.served);
      const difference = { index: program.length - 1, op: 'the program', engine: 'ends', kernel: tail };
      return { program, kernel: null, difference };
    }
  }

  /** Throws CommandError if the program does not end. */
  runOnKernel(program: readonly Step[]): Promise<RunResult> {
    const addresses = Object.fromEntries(this.lender.devices.map(({ name, address }) => [name, address]));
    const parameters = {
      scenario: programScenario(program),
      addresses: { ...addresses, borrower: this.lender.borrower },
    };
    return this.guest.call('scenario', parameters, CALL_TIMEOUT_MS);
  }

  /** Leaves out one step after the other while a difference remains. */
  async shrink(program: readonly Step[], difference: Difference): Promise<Difference & { program: Step[] }> {
    let shortest = { program: program.slice(0, difference.index + 1), difference };
    const kept = (this.lender.ioas === true ? IOAS_PREFIX : this.lender.devices.flatMap(prefix)).length;
    for (let i = shortest.program.length - 2; i >= kept; i--) {
      const tried = await this.compare(shortest.program.filter((_, at) => at !== i));
      if (tried.difference === null) continue;
      const cut = tried.program.slice(0, tried.difference.index + 1);
      if (cut.length > shortest.program.length) continue;
      shortest = { program: cut, difference: tried.difference };
      i = Math.min(i, cut.length - 1);
    }
    return { ...shortest.difference, program: shortest.program };
  }

  /** Stops the guest; returns the kernel reports of all guests so far. */
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

async function boot(lender: LenderSetup, choice: GuestChoice, served: Served): Promise<Guest> {
  const devices = Object.entries(lender.qemu).map(([name, device]) => device ?? served.qemuDevice(name));
  const iommu = lender.iommu === undefined ? {} : { iommu: lender.iommu };
  const { extra, modules = [] } = lender;
  const guest = await Guest.boot({ devices, extra, modules, ...choice, ...iommu });
  try {
    const [physical, virtual] = [false, true].map((isVf) =>
      lender.devices.filter(({ vf }) => (vf !== undefined) === isVf).map(({ address }) => address),
    );
    await guest.call('bind', { addresses: physical });
    // A kernel with a built-in driver gives the borrower that driver's DMA mask. Without a driver the importer chooses
    // the mask.
    const driver = `/sys/bus/pci/devices/${lender.borrower}/driver`;
    const release = `if [ -e ${driver} ]; then echo ${lender.borrower} > ${driver}/unbind; fi`;
    const { status, stderr } = await guest.call('shell', { command: `set -e\n${release}\n${lender.setup ?? ''}` });
    if (status !== 0) throw new CommandError(`the devices of ${lender.name} cannot be set up: ${stderr.trim()}`);
    await guest.call('bind', { addresses: virtual });
    return guest;
  } catch (error) {
    await guest.stop();
    throw error;
  }
}

/**
 * Puts the captured devices below the ports that they have in the guest, and adds the borrower of the lab's machine.
 */
function describe(lender: LenderSetup, captured: Record<string, string | null>): MachineDescription {
  const machine = loadMachine(LAB_MACHINE);
  const port = (address: string) => `root${Number.parseInt(address.split(':')[1], 16) - 1}`;
  const devices = lender.devices.map(({ name, address, vf }) => {
    const [device] = parseMachine(captured[address]!, address).devices;
    return { ...device, name, port: port(address), ...(vf === undefined ? {} : { physfn: vf.physfn }) };
  });
  const borrower = machine.devices.find(({ name }) => name === 'borrower')!;
  return {
    ...machine,
    host: { ...machine.host, iommu: lender.iommu === 'iommu=pt' ? 'passthrough' : 'translated' },
    devices: [...devices, { ...borrower, port: port(lender.borrower) }],
  };
}
