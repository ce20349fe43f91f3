import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { Port } from '../../src/pci/port.ts';

test('a port knows the way up and what is below it', () => {
  const root = new Port('root', 'root', null);
  const up = new Port('up', 'upstream', root);
  const slots = [new Port('d0', 'downstream', up), new Port('d1', 'downstream', up)];
  const fns = slots.map((slot, i) => {
    const fn = new PciFunction({
      name: `f${i}`,
      config: new ConfigSpace(),
      bars: [null, null, null, null, null, null],
    });
    slot.functions.push(fn);
    return fn;
  });
  assert.deepEqual([...slots[1].path()], [slots[1], up, root]);
  assert.deepEqual(root.functionsBelow(), fns);
  assert.deepEqual(slots[0].functionsBelow(), [fns[0]]);
});

test('each of three bits of ACS redirects', () => {
  assert.equal(new Port('none', 'root', null).redirects, false);
  for (const bit of ['requestRedirect', 'completionRedirect', 'egressControl']) {
    assert.equal(new Port(bit, 'root', null, { [bit]: true }).redirects, true);
  }
});
