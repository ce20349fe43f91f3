/** What root does from outside revokes first. Only memory that decodes is lent again, or answers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_CAP_ID_PM, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_PM_CTRL } from '../../src/abi/pci_regs.ts';
import { VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_STOP } from '../../src/abi/vfio-feature.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { runner } from '../../src/task/runner.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';

const MACHINE = `
machine: card
ports: [{ name: slot, kind: root }, { name: shared, kind: root }]
devices:
  - name: lender
    model: memory
    port: slot
    bars: [{ index: 0, size: 4K }]
    capabilities: { pm: {}, express: { flr: true } }
  - { name: bare, model: memory, port: shared, bars: [{ index: 0, size: 4K }] }
  - { name: plain, model: memory, port: shared, bars: [{ index: 0, size: 4K }] }
  - name: pf
    model: memory
    port: shared
    bars: [{ index: 0, size: 4K }]
    capabilities: { express: { flr: true }, sriov: { vfDevice: 2 } }
  - name: vf
    model: memory
    port: shared
    physfn: pf
    bars: [{ index: 0, size: 4K }]
    capabilities: { express: { flr: true } }
`;
const CONFIG = 7;

function rig(profile: ProfileName = 'default') {
  const devices = buildVfioDevices(buildMachine(parseMachine(MACHINE, 'card.yaml')).functions, PROFILES[profile]);
  const lender = devices.get('lender')!;
  runner.run(lender.open());
  const write = (value: number): void => runner.run(lender.sysfsConfigWrite(PCI_COMMAND, 1, value));
  const read = (): string => {
    const bytes = new Uint8Array(4);
    runner.run(lender.read(0, 0, bytes));
    return Buffer.from(bytes).toString('hex');
  };
  const now = (): boolean => lender.accessNow(0, 0, new Uint8Array(4), false);
  return { devices, lender, write, read, now };
}

test('memory that was switched off from outside is not lent and does not answer, until somebody switches it on', () => {
  const { lender, write, read, now } = rig();
  runner.run(lender.write(0, 0, Uint8Array.of(1, 2, 3, 4)));
  write(0);
  assert.equal(lender.mayLend(), false);
  assert.throws(read, { code: 'EIO' });
  assert.equal(now(), false);
  const command = Uint8Array.of(PCI_COMMAND_MEMORY, 0);
  runner.run(lender.write(CONFIG, PCI_COMMAND, command));
  assert.deepEqual([lender.mayLend(), read(), now()], [true, '01020304', true]);
  write(0);
  write(PCI_COMMAND_MEMORY);
  assert.deepEqual([lender.mayLend(), read(), now()], [true, '01020304', true]);
});

test('in Linux the memory counts as on, reads as ones, and loses what is written', () => {
  const { lender, write, read, now } = rig('linux-7.3');
  write(0);
  assert.deepEqual([lender.mayLend(), read(), now()], [true, 'ffffffff', false]);
  runner.run(lender.write(0, 0, Uint8Array.of(1, 2, 3, 4)));
  write(PCI_COMMAND_MEMORY);
  assert.equal(read(), '00000000');
});

test('in Linux a power state that is written past the driver counts for nobody, and one that the driver sets does', () => {
  const { lender } = rig('linux-7.3');
  const control = lender.pdev.config.find(PCI_CAP_ID_PM) + PCI_PM_CTRL;
  const fromOutside = (state: number): void => runner.run(lender.sysfsConfigWrite(control, 1, state));
  const byUser = (state: number): void => {
    runner.run(lender.write(CONFIG, control, Uint8Array.of(state, 0)));
  };
  fromOutside(3);
  assert.equal(lender.mayLend(), true, 'D3hot from outside');
  fromOutside(0);
  assert.equal(lender.mayLend(), true, 'and back');
  fromOutside(3);
  byUser(0);
  byUser(3);
  assert.equal(lender.mayLend(), false, 'the user’s D3hot after one from outside');
  fromOutside(0);
  assert.equal(lender.mayLend(), false, 'D0 from outside');
  runner.run(lender.close());
  runner.run(lender.open());
  assert.equal(lender.mayLend(), true, 'opened again');
});

test('a device that nobody has opened is reset and written too, and stays as revoked as it was', () => {
  const { devices } = rig();
  const pf = devices.get('pf')!;
  runner.run(pf.sysfsReset());
  runner.run(pf.sysfsConfigWrite(PCI_COMMAND, 1, PCI_COMMAND_MEMORY));
  assert.equal(pf.pdev.memoryDecode.value, true);
});

test('a device that migrates runs after its reset, as after any other', () => {
  const { lender } = rig();
  const migration = lender.migration!;
  runner.run(migration.setState(VFIO_DEVICE_STATE_STOP));
  runner.run(lender.sysfsReset());
  assert.equal(runner.run(migration.state()), VFIO_DEVICE_STATE_RUNNING);
});

test('without a method there is no file to write, but function 0 has it from the time when it was alone', () => {
  const { devices } = rig();
  const refused = (name: string, method?: 'bus') => () => runner.run(devices.get(name)!.sysfsReset(method));
  assert.throws(refused('plain'), { code: 'ENOENT' });
  assert.throws(refused('plain', 'bus'), { code: 'ENOENT' });
  assert.throws(refused('bare'), { code: 'ENOTTY' });
  assert.throws(refused('bare', 'bus'), { code: 'EINVAL' });
});

test('a reset of a bus with virtual functions is refused: their memory could not be revoked', () => {
  const { devices } = rig();
  assert.throws(() => runner.run(devices.get('pf')!.sysfsResetSubordinate()), { code: 'EBUSY' });
  runner.run(devices.get('lender')!.sysfsResetSubordinate());
});

test('a bus reset gives way to a task that holds the memory of a device', () => {
  const { lender } = rig();
  runner.run(
    (function* () {
      yield* lender.memoryLock.read();
      assert.throws(() => runner.run(lender.sysfsResetSubordinate()), { code: 'EBUSY' });
      yield* lender.memoryLock.releaseRead();
    })(),
  );
  runner.run(lender.sysfsResetSubordinate());
  assert.equal(lender.mayLend(), true);
});
