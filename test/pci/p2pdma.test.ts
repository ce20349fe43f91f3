import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { mapType, type P2pRoute } from '../../src/pci/p2pdma.ts';

/** Two switches below root port a, one device below root port b; `acs` and `host` are merged in. */
function route(from: string, to: string, acs: Record<string, object> = {}, host: object = {}): P2pRoute {
  const port = (name: string, kind: string, parent?: string) => ({
    name,
    kind,
    ...(parent === undefined ? {} : { parent }),
    ...(acs[name] === undefined ? {} : { acs: acs[name] }),
  });
  const device = (name: string, at: string) => ({ name, port: at, model: 'memory', bars: [{ index: 0, size: '1M' }] });
  const machine = {
    machine: 'tree',
    host: { cpu: 'intel', cpuFamily: 6, ...host },
    ports: [
      port('a', 'root'),
      port('up', 'upstream', 'a'),
      port('d0', 'downstream', 'up'),
      port('d1', 'downstream', 'up'),
      port('up2', 'upstream', 'd1'),
      port('e0', 'downstream', 'up2'),
      port('b', 'root'),
    ],
    devices: [device('one', 'd0'), device('sibling', 'd0'), device('deep', 'e0'), device('far', 'b')],
  };
  const { functions } = buildMachine(parseMachine(JSON.stringify(machine), 'tree.yaml'));
  return mapType(functions.get(from)!, functions.get(to)!);
}

const type = (...parameters: Parameters<typeof route>) => route(...parameters).type;
const AMD = { cpu: 'amd', cpuFamily: 0x17 };

test('below one switch peers reach each other by bus address, and the distance counts the links', () => {
  assert.deepEqual(route('one', 'one'), { type: 'bus-addr', distance: 0, busOffset: 0 });
  assert.deepEqual(route('one', 'sibling'), { type: 'bus-addr', distance: 2, busOffset: 0 });
  assert.deepEqual(route('one', 'deep'), { type: 'bus-addr', distance: 6, busOffset: 0 });
  assert.equal(route('one', 'deep', {}, { busOffset: 0x1000 }).busOffset, 0x1000);
});

test('any redirecting port on the way, the common bridge included, sends them through the host bridge', () => {
  const bits = ['requestRedirect', 'completionRedirect', 'egressControl'];
  const redirecting = fc.record({
    at: fc.constantFrom('up', 'd0', 'd1', 'up2', 'e0', 'a', 'b'),
    bit: fc.constantFrom(...bits),
  });
  fc.assert(
    fc.property(redirecting, ({ at, bit }) => {
      const onTheWay = at !== 'a' && at !== 'b';
      assert.equal(type('one', 'deep', { [at]: { [bit]: true } }, AMD), onTheWay ? 'thru-host-bridge' : 'bus-addr');
      assert.equal(type('one', 'deep', { [at]: { [bit]: true } }), onTheWay ? 'not-supported' : 'bus-addr');
    }),
  );
});

test('without a common bridge the host bridge decides: AMD from family 0x17 on, or the list', () => {
  assert.equal(type('one', 'far', {}, AMD), 'thru-host-bridge');
  assert.equal(type('one', 'far', {}, { cpu: 'amd', cpuFamily: 0x16 }), 'not-supported');
  assert.equal(type('one', 'far', {}, { cpu: 'other', cpuFamily: 0x17 }), 'not-supported');
  const bridge = (vendor: number, device: number) => type('one', 'far', {}, { bridge: { vendor, device } });
  for (const device of [0x3c00, 0x3c01, 0x2f00, 0x2f01, 0x2030, 0x2031, 0x2032, 0x2033, 0x2020, 0x09a2]) {
    assert.equal(bridge(0x8086, device), 'thru-host-bridge', device.toString(16));
  }
  assert.equal(bridge(0x8086, 0x29c0), 'not-supported');
  assert.equal(bridge(0x1ae0, 0x1234), 'thru-host-bridge');
  for (const device of [0x2f95, 0x2f96, 0x2f97, 0x2f98]) assert.equal(bridge(0x10de, device), 'thru-host-bridge');
  assert.equal(bridge(0x10de, 0x2f99), 'not-supported');
});

test('the answer is the same in both directions', () => {
  for (const [a, b] of [
    ['one', 'sibling'],
    ['one', 'deep'],
    ['one', 'far'],
    ['deep', 'far'],
  ]) {
    assert.deepEqual(
      route(a, b, { d1: { egressControl: true } }, AMD),
      route(b, a, { d1: { egressControl: true } }, AMD),
    );
  }
});
