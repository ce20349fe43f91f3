/** `barter lab selftests`: Linux's own vfio selftests, on devices that Barter serves and on QEMU's igb. */
import { Readable } from 'node:stream';
import { packageFile } from '../../src/linux/package-file.ts';
import { CommandError } from '../host/command.ts';
import type { Accel } from '../host/machine.ts';
import { guestAddress } from '../host/machine.ts';
import type { LabKernel } from '../kernel/kernel.ts';
import { type KernelReport, undocumented } from '../kernel/reports.ts';
import { selftestPrograms } from '../kernel/selftests-build.ts';
import { labExec } from './exec.ts';
import { parseTap, type TapResult } from './tap.ts';

const MACHINE = packageFile('examples/apart.yaml');
/** The driver's tests map a GiB of shared memory. */
const MEMORY = '4G';
const HUGE_PAGES = 160;
/**
 * Enables huge pages for shared memory. They make a GiB 512 mappings instead of 262,144 of 4 KiB. Behind a virtual
 * IOMMU each mapping is a message to the server, and a test may take only 30 seconds.
 */
const LARGE_SHARED_PAGES =
  'f=/sys/kernel/mm/transparent_hugepage/shmem_enabled; if [ -e $f ]; then echo always > $f; fi';
const PROGRAM_SECONDS = 1200;
const SRIOV_PROGRAM = 'vfio_pci_sriov_uapi_test';
const MARK = '### barter';

export interface SelftestSuite {
  /** The program and its device. */
  name: string;
  passed: number;
  failed: number;
  skipped: number;
  failures: { name: string; text: string }[];
  skips: { name: string; reason: string }[];
  tests: TapResult[];
}

export interface SelftestsResult {
  ok: boolean;
  kernel: string;
  suites: SelftestSuite[];
  reports: KernelReport[];
}

export interface SelftestsOptions {
  kernel: LabKernel;
  accel: Accel;
  /** Programs by name; if empty, all of them. */
  only: readonly string[];
  /** Called with each finished suite. */
  onSuite: (suite: SelftestSuite) => void;
}

export async function labSelftests(options: SelftestsOptions): Promise<SelftestsResult> {
  const { kernel, accel, only, onSuite } = options;
  const programs = [...selftestPrograms()].filter(([name]) => only.length === 0 || only.includes(name));
  const cases = plan(programs);
  const suites: SelftestSuite[] = [];
  const lines = new LineReader((line) => output.push(line));
  const output: string[] = [];
  const take = (): void => {
    const suite = nextSuite(output, kernel);
    if (suite === null) return;
    suites.push(suite);
    onSuite(suite);
  };
  const { fault, reports, release } = await labExec({
    ...{ kernel, accel, machine: MACHINE, devices: [], modules: [], shares: [], memory: MEMORY, terminal: null },
    command: ['/bin/sh', '-c', script(cases)],
    environment: {
      BARTER_SLOWNESS: accel === 'tcg' ? '20' : '1',
      ...(kernel.hasIommufd ? {} : { BARTER_IOMMU_MODE: 'vfio_type1v2_iommu' }),
    },
    qemuArgs: ['-device', 'pcie-root-port,id=igb,chassis=99,addr=0x1e', '-device', 'igb,romfile=,bus=igb'],
    stdin: Readable.from([]),
    onStdout: (part) => {
      lines.add(part.toString('utf8'));
      take();
    },
    onStderr: (part) => process.stderr.write(part),
  });
  if (fault !== null) throw new CommandError(fault.message);
  const ok = suites.every(({ failed }) => failed === 0) && undocumented(reports).length === 0;
  return { ok: ok && suites.length === cases.length, kernel: release, suites, reports };
}

interface Case {
  name: string;
  program: string;
  /** The device's address in the guest, as a shell word. */
  device: string;
}

/** igb is below the last port, so it has the last bus. */
function plan(programs: readonly (readonly [string, string])[]): Case[] {
  return programs.flatMap(([name, program]) => {
    if (name === SRIOV_PROGRAM) return [{ name: `${name} on igb`, program, device: '$igb' }];
    return [
      { name: `${name} on lender`, program, device: guestAddress(0) },
      { name: `${name} on ioat`, program, device: guestAddress(1) },
    ];
  });
}

function script(cases: readonly Case[]): string {
  const run = ({ name, program, device }: Case): string => `
echo '${MARK} begin ${name}'
timeout ${PROGRAM_SECONDS} ${program} ${device} 2>&1
echo '${MARK} end' $?`;
  return `
igb=$(grep -l 0x10c9 /sys/bus/pci/devices/*/device | head -n1 | cut -d/ -f6)
for device in ${guestAddress(0)} ${guestAddress(1)} $igb; do
  [ -e /sys/bus/pci/devices/$device/driver ] && echo $device > /sys/bus/pci/devices/$device/driver/unbind
  echo vfio-pci > /sys/bus/pci/devices/$device/driver_override
  echo $device > /sys/bus/pci/drivers_probe
done
echo 1 > /sys/module/vfio_pci/parameters/enable_sriov
echo ${HUGE_PAGES} > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
${LARGE_SHARED_PAGES}
${cases.map(run).join('\n')}`;
}

/** Removes and returns the next suite whose lines are complete. */
function nextSuite(output: string[], { hasIommufd }: LabKernel): SelftestSuite | null {
  const end = output.findIndex((line) => line.startsWith(`${MARK} end`));
  if (end < 0) return null;
  const lines = output.splice(0, end + 1);
  const begin = lines.findIndex((line) => line.startsWith(`${MARK} begin `));
  const name = lines[begin].slice(`${MARK} begin `.length);
  const status = Number(lines[end].slice(`${MARK} end `.length));
  const tests = parseTap(lines.slice(begin + 1, end), status).map((test) => withoutIommufd(test, name, hasIommufd));
  const count = (kind: TapResult['verdict']): number => tests.filter(({ verdict }) => verdict === kind).length;
  return {
    ...{ name, passed: count('pass'), failed: count('fail'), skipped: count('skip') },
    failures: tests.filter(({ verdict }) => verdict === 'fail').map((test) => ({ name: test.name, text: test.text })),
    skips: tests.filter(({ verdict }) => verdict === 'skip').map((test) => ({ name: test.name, reason: test.reason })),
    tests,
  };
}

/** Turns failures into skips: tests of iommufd fail instead of skipping if the kernel has no iommufd. */
function withoutIommufd(test: TapResult, suite: string, hasIommufd: boolean): TapResult {
  if (hasIommufd || test.verdict !== 'fail' || !/iommufd/.test(`${suite} ${test.name}`)) return test;
  return { ...test, verdict: 'skip', reason: 'the kernel has no /dev/iommu' };
}

/** Splits a stream into lines. */
class LineReader {
  private rest = '';
  private readonly onLine: (line: string) => void;

  constructor(onLine: (line: string) => void) {
    this.onLine = onLine;
  }

  add(text: string): void {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop()!;
    for (const line of lines) this.onLine(line);
  }
}
