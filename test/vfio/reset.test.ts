/** Resets by the user: of odd devices, of physical functions as their virtual ones see them, and of a whole slot. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';
import { hotResetInfo } from '../../src/vfio/reset.ts';

const MACHINE = `
machine: card
ports: [{ name: slot, kind: root }, { name: other, kind: root }]
devices:
  - name: pf
    model: memory
    port: slot
    bars: [{ index: 0, size: 4K }]
    capabilities: { pm: {}, express: { flr: true }, sriov: { vfDevice: 2 } }
  - name: vf
    model: memory
    port: slot
    physfn: pf
    bars: [{ index: 0, size: 4K }]
    capabilities: { express: { flr: true } }
  - { name: sibling, model: memory, port: slot, bars: [{ index: 0, size: 4K }] }
  - { name: alone, model: memory, port: other, bars: [{ index: 0, size: 4K }] }
`;

function rig(profile: ProfileName = 'default') {
  const { functions } = buildMachine(parseMachine(MACHINE, 'card.yaml'));
  const devices = buildVfioDevices(functions, PROFILES[profile]);
  const device = (name: string) => devices.get(name)!;
  const open = (name: string): void => {
    runner.run(device(name).open(name === 'vf' ? device('pf').vfToken!.uuid : null));
    runner.run(device(name).write(7, 4, Uint8Array.of(6, 0)));
  };
  return { functions, device, open };
}

/** The decode states that an action's reset sees. */
function seenBy(fn: { hardwareReset(): Task }, look: () => unknown): unknown[] {
  const seen: unknown[] = [];
  const { hardwareReset } = fn;
  fn.hardwareReset = function* (this: never) {
    seen.push(look());
    yield* hardwareReset.call(this);
    seen.push(look());
  };
  return seen;
}

test('a function without a reset of its own: EINVAL, and it keeps all that it has', () => {
  const { device, open, functions } = rig();
  open('sibling');
  assert.throws(() => runner.run(device('sibling').reset()), { code: 'EINVAL' });
  assert.equal(functions.get('sibling')!.busMaster, true);
  assert.equal(device('sibling').mayLend(), true);
});

test('a reset is from D0, with the memory taken, and the registers as they were after it', () => {
  const { device, open, functions } = rig();
  open('pf');
  const fn = functions.get('pf')!;
  const pm = fn.config.find(1) + 4;
  runner.run(device('pf').write(7, pm, Uint8Array.of(3, 0)));
  const seen = seenBy(fn, () => [fn.powerState.value, device('pf').memoryLock.writer !== null]);
  runner.run(device('pf').reset());
  assert.deepEqual(seen.slice(0, 2), [
    [0, true],
    [0, true],
  ]);
  assert.deepEqual([fn.powerState.value, fn.busMaster, device('pf').mayLend()], [0, true, true]);
});

test("a physical function's reset is seen in its virtual one's registers, and takes its memory meanwhile", () => {
  for (const profile of ['default', 'linux-7.3'] as const) {
    const { device, open, functions } = rig(profile);
    open('pf');
    open('vf');
    const vf = functions.get('vf')!;
    assert.equal(vf.busMaster, true);
    const seen = seenBy(vf, () => device('vf').memoryLock.writer !== null);
    runner.run(device('pf').reset());
    const takes = PROFILES[profile].resetTakesVirtfns;
    assert.deepEqual(seen, [takes, takes], profile);
    assert.equal(vf.busMaster, false);
    assert.equal(vf.memoryDecode.value, true);
    assert.equal(device('vf').mayLend(), true);
    runner.run(device('vf').close());
    runner.run(device('pf').close());
  }
});

test('who is reset along with a device: its slot, and nobody of another', () => {
  const { device } = rig();
  assert.equal(hotResetInfo(device('sibling')).length, 3);
  assert.equal(hotResetInfo(device('alone')).length, 1);
  assert.deepEqual(
    hotResetInfo(device('pf')).map(({ devfn }) => devfn),
    [0, 1, 2],
  );
});

test('a hot reset wants the groups of all that it hits, and members of its set alone', () => {
  const { device, open } = rig();
  open('alone');
  const { iommuGroup } = device('alone').pdev;
  for (const owned of [[], [iommuGroup + 1], [iommuGroup, iommuGroup]]) {
    assert.throws(() => runner.run(device('alone').hotReset(owned)), { code: 'EINVAL' });
  }
  runner.run(device('alone').hotReset([iommuGroup]));
  // A virtual function never belongs to the set.
  open('sibling');
  assert.throws(() => runner.run(device('sibling').hotReset([device('sibling').pdev.iommuGroup])), { code: 'EINVAL' });
});

test('a member whose memory is in use is EBUSY, and every lock that was taken is given back', () => {
  const { functions, device, open } = rig();
  functions.get('pf')!.virtfns.length = 0;
  open('alone');
  const alone = device('alone');
  runner.run(
    (function* (): Task {
      yield* alone.memoryLock.read();
      let code: unknown = null;
      try {
        yield* alone.hotReset([alone.pdev.iommuGroup]);
      } catch (error) {
        ({ code } = error as { code: unknown });
      }
      assert.equal(code, 'EBUSY');
      yield* alone.memoryLock.releaseRead();
    })(),
  );
  assert.deepEqual([alone.memoryLock.writer, alone.mayLend()], [null, true]);
  runner.run(alone.hotReset([alone.pdev.iommuGroup]));
});
