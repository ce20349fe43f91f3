/** The programs of the findings on a lab kernel, if this machine has built that kernel. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { namedReproducer } from '../../src/reproduce/named.ts';
import { reproducer } from '../../src/reproduce/program.ts';
import { loadScenario } from '../../src/scenario/load.ts';
import { barter } from '../cli/barter.ts';

const FINDINGS = new URL('../../lab/findings/', import.meta.url).pathname;
const FIXED = ['01', '02', '03', '04', '05', '06', '09', '11', '12', '14'];
/**
 * A PF with VFs needs another machine: its test is below. Only kmemleak and map-leak show leaks. The lab's kernels have
 * no aer_inject.
 */
const ELSEWHERE = ['07', '08', '16'];
/** QEMU's igb is below the last port, so it has the last bus. */
const IGB = '-device pcie-root-port,id=igb,chassis=99,addr=0x1e -device igb,romfile=,bus=igb';
const missing = missingStages(findKernel('iommufd'));
const skip = missing.length > 0 ? `NOT RUN: barter lab prepare --kernel iommufd (${missing.join(', ')})` : false;
const patched = isPatched();
const folder = mkdtempSync(join(tmpdir(), 'barter-reproducer-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Whether the kernel with the fixes exists and is up to date with the lab. */
function isPatched(): boolean {
  try {
    return findKernel('iommufd+fixes').name !== '';
  } catch {
    return false;
  }
}

function compiled(file: string): { program: string; importer: string | null } {
  const { text, importer } = reproducer(loadScenario(join(FINDINGS, file)).scenario, file);
  const program = join(folder, basename(file, '.yaml'));
  compile(program, text);
  return { program, importer };
}

function compile(program: string, text: string): void {
  writeFileSync(`${program}.c`, text);
  const options = ['-static', '-Wall', '-Wextra', '-Werror', '-o', program, `${program}.c`];
  const { status, stderr } = spawnSync('cc', options, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** Compiles the programs, and writes a script that runs each and prints its number and status. */
function programs(): string {
  const lines = readdirSync(FINDINGS)
    .sort()
    .filter((file) => !ELSEWHERE.includes(file.slice(0, 2)))
    .map((file) => {
      const { program, importer } = compiled(file);
      const addresses =
        importer === 'module' ? '$BARTER_DEVICE_LENDER $BARTER_DEVICE_BORROWER' : '$BARTER_DEVICE_LENDER';
      return `${program} ${addresses} >&2; echo ${file.slice(0, 2)} $?`;
    });
  const setup = [
    'devices=/sys/bus/pci/devices',
    'echo vfio-pci > $devices/$BARTER_DEVICE_LENDER/driver_override',
    'echo $BARTER_DEVICE_LENDER > /sys/bus/pci/drivers_probe',
    'unbind=$devices/$BARTER_DEVICE_BORROWER/driver/unbind',
    'if [ -e $unbind ]; then echo $BARTER_DEVICE_BORROWER > $unbind; fi',
  ];
  const script = join(folder, 'all.sh');
  writeFileSync(script, [...setup, ...lines].join('\n'));
  return script;
}

function statuses(kernel: string): Map<string, string> {
  const machine = ['--machine', 'lab/diff/machine.yaml', '--kernel', kernel, '--accel', 'tcg', '--timeout', '900'];
  const { stdout, stderr } = barter('lab', 'exec', ...machine, '--', 'sh', programs());
  const found = new Map(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
  assert.ok(found.size > 0, stderr);
  return found;
}

test('each shows its finding', { skip }, () => {
  for (const [finding, status] of statuses('iommufd')) assert.equal(status, '1', `finding ${finding}`);
});

test('each says that all is right where an edit of ours mends it', {
  skip: skip || (patched ? false : 'NOT RUN: barter lab patch lab/fixes --kernel iommufd'),
}, () => {
  const found = statuses('iommufd+fixes');
  for (const finding of FIXED) assert.equal(found.get(finding), '0', `finding ${finding}`);
});

test('the one about a physical function shows its finding on igb and its virtual function', { skip }, () => {
  const { program } = compiled('07-reset-of-a-physical-function.yaml');
  const script = join(folder, 'igb.sh');
  const bind = (address: string) =>
    `if [ -e $devices/${address}/driver ]; then echo ${address} > $devices/${address}/driver/unbind; fi
echo vfio-pci > $devices/${address}/driver_override; echo ${address} > /sys/bus/pci/drivers_probe`;
  writeFileSync(
    script,
    `set -e
devices=/sys/bus/pci/devices
igb=$(grep -l 0x10c9 $devices/*/device | head -n1 | cut -d/ -f6)
${bind('$igb')}
echo 1 > /sys/module/vfio_pci/parameters/enable_sriov
echo 1 > $devices/$igb/sriov_numvfs
vf=$(basename $(readlink $devices/$igb/virtfn0))
${bind('$vf')}
if [ -e $devices/$BARTER_DEVICE_BORROWER/driver ]; then
  echo $BARTER_DEVICE_BORROWER > $devices/$BARTER_DEVICE_BORROWER/driver/unbind
fi
exec ${program} $igb $vf $BARTER_DEVICE_BORROWER
`,
  );
  const machine = ['--machine', 'lab/diff/machine.yaml', '--kernel', 'iommufd', '--accel', 'tcg', `--qemu-arg=${IGB}`];
  const { status, stdout, stderr } = barter('lab', 'exec', ...machine, '--', 'sh', script);
  assert.equal(status, 1, stdout + stderr);
  assert.match(stdout, /^SHOWN: step 8, callbacks importer=peer: \[\]; right is \[1,0\]$/m);
});

const noGpu = missingStages();

test('the one about a GPU that is gone shows its finding on the kernel that has virtio_gpu', {
  skip: noGpu.length > 0 ? `NOT RUN: barter lab prepare (${noGpu.join(', ')})` : false,
}, () => {
  const program = join(folder, 'gpu');
  compile(program, namedReproducer('gpu-that-is-gone')!.text);
  const script = `echo vfio-pci > /sys/bus/pci/devices/$BARTER_DEVICE_LENDER0/driver_override
echo $BARTER_DEVICE_LENDER0 > /sys/bus/pci/drivers_probe
exec ${program} $BARTER_DEVICE_LENDER0 $BARTER_DEVICE_GPU0`;
  const machine = ['--machine', 'lab/runs/screen/machine.yaml', '--module', 'virtio_gpu', '--accel', 'tcg'];
  const { status, stdout, stderr } = barter('lab', 'exec', ...machine, '--', 'sh', '-c', script);
  assert.equal(status, 1, stdout + stderr);
  assert.match(stdout, /^SHOWN: step 6, memory device=lender on=false: never returns; right is null$/m);
});
