/** An accepted file builds and serves. A machine that cannot exist is refused with file, line, field and reason. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildMachine } from '../../src/machine/build.ts';
import { inspectMachine } from '../../src/machine/inspect.ts';
import { loadMachine, parseMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { DocumentError } from '../../src/machine/yaml.ts';
import { runner } from '../../src/task/runner.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES } from '../../src/vfio/profile.ts';
import { regionInfo } from '../../src/vfio/regions.ts';
import { tokenToOpen } from '../../src/vfio/token.ts';
import { damagedMachine, machine } from './arbitrary-machine.ts';

const RUNS = 2500;

/** File and line, the field (keys that are not words are quoted), and the reason. */
const KEY = /(?:[\w-]+|"(?:[^"\\]|\\.)*")/.source;
const REFUSAL = new RegExp(`^m\\.yaml:\\d+: (?:the document|${KEY}(?:\\.${KEY})*): \\S.{6,}$`);

/** The machine, or the refusal, whose form people and editors can read. */
function accepted(text: string): MachineDescription | DocumentError {
  try {
    return parseMachine(text, 'm.yaml');
  } catch (error) {
    if (!(error instanceof DocumentError)) throw error;
    assert.match(error.message, REFUSAL, 'a refusal has file, line, field and reason');
    return error;
  }
}

/** Builds the machine and uses each device as a client would: opens it, and reads everything that it reports. */
function buildAndOpen(description: MachineDescription): void {
  const built = buildMachine(description);
  const view = inspectMachine(built);
  assert.equal(view.devices.length, description.devices.length);
  const ranges = view.devices
    .flatMap(({ bars }) => bars)
    .filter(({ kind }) => kind !== 'io')
    .sort((a, b) => a.address - b.address);
  for (const [i, { address, sizeBytes }] of ranges.entries()) {
    assert.ok(address + sizeBytes <= (ranges[i + 1]?.address ?? 2 ** 52), 'BARs lie beside each other');
  }
  for (const vdev of buildVfioDevices(built.functions, PROFILES.default).values()) {
    runner.run(vdev.open(tokenToOpen(vdev)));
    const config = new Uint8Array(vdev.pdev.config.sizeBytes);
    assert.equal(runner.run(vdev.read(7, 0, config)), config.length);
    const ids = Buffer.from(config).readUInt32LE(0);
    assert.ok(ids !== 0 && (ids & 0xffff) !== 0xffff, 'a guest sees a device in the slot');
    assert.equal(config[0x0e] & 0x7f, 0, 'an endpoint');
    for (let index = 0; index < 9; index++) readRegion(vdev, index);
    for (let index = 0; index < 5; index++) assert.ok(vdev.interrupts.irqInfo(index).count >= 0);
    runner.run(vdev.close());
  }
}

type Vdev = ReturnType<typeof buildVfioDevices> extends Map<string, infer V> ? V : never;

/** Reads the first and last bytes of a region, and the MSI-X table if it is there. */
function readRegion(vdev: Vdev, index: number): void {
  if (index === 8) return;
  const { sizeBytes } = regionInfo(vdev, index);
  if (sizeBytes === 0 || index === 7) return;
  const bytes = new Uint8Array(Math.min(4, sizeBytes));
  for (const at of [0, sizeBytes - bytes.length]) assert.equal(runner.run(vdev.read(index, at, bytes)), bytes.length);
  const table = vdev.interrupts.msixTable;
  if (table?.barIndex !== index) return;
  assert.ok(table.offset + table.sizeBytes <= sizeBytes, 'the table lies in its BAR');
}

const counts = { accepted: 0, refused: 0 };

function buildsOrIsRefused(object: unknown): void {
  const description = accepted(JSON.stringify(object, null, 1));
  counts[description instanceof DocumentError ? 'refused' : 'accepted'] += 1;
  if (!(description instanceof DocumentError)) buildAndOpen(description);
}

test(`${RUNS} machine files over the whole schema: each builds and opens, or is refused with its place`, () => {
  fc.assert(fc.property(machine, buildsOrIsRefused), { numRuns: RUNS });
  // The generator makes files that the checks accept and files that they refuse.
  assert.ok(counts.accepted > RUNS / 5 && counts.refused > RUNS / 5, JSON.stringify(counts));
});

test('machine files with one field that is wrong: each builds and opens, or is refused with its place', () => {
  fc.assert(fc.property(damagedMachine, buildsOrIsRefused), { numRuns: 500 });
});

/** A file with a root port, and a device with these fields. */
const withDevice = (fields: object): unknown => ({
  machine: 'm',
  ports: [{ name: 'root', kind: 'root' }],
  devices: [{ name: 'd', port: 'root', model: 'memory', bars: [{ index: 0, size: '4K' }], ...fields }],
});
const withMsix = (size: string, msix: object): unknown =>
  withDevice({ bars: [{ index: 2, kind: 'mem32', size }], capabilities: { msix: { bar: 2, ...msix } } });
const bars = (...list: object[]): unknown => withDevice({ bars: list });
const withPorts = (ports: object[], port = 'root'): unknown => ({ ...Object(withDevice({ port })), ports });
const pf = { name: 'pf', port: 'root', model: 'memory', bars: [{ index: 0, size: '4K' }] };
const PF = { ...pf, capabilities: { express: {}, sriov: { vfDevice: 1 } } };
const vf = { ...pf, name: 'vf', physfn: 'pf' };
const withDevices = (...devices: object[]): unknown => ({ ...Object(withDevice({})), devices });
const VPD_AT_40 = { 52: 0x40, 64: 0x03 };
/** A captured device whose config space has these 32-bit registers. */
const captured = (registers: Record<number, number>, fields: object = {}, length = 256): unknown => {
  const bytes = Buffer.alloc(length);
  if (length >= 64) {
    bytes.writeUInt32LE(0x15338086, 0);
    bytes.writeUInt16LE(0x10, 6);
  }
  for (const [at, value] of Object.entries(registers)) bytes.writeUInt32LE(value >>> 0, Number(at));
  const config = (bytes.toString('hex').match(/.{1,32}/g) ?? []).join('\n');
  return withDevice({ model: 'captured', config, bars: [], ...fields });
};
const bar0 = { bars: [{ index: 0, kind: 'mem32', size: '4K' }] };
/** A virtual function of a physical one, captured with these 32-bit registers. */
const capturedVf = (registers: Record<number, number>): unknown => {
  const [device] = Object(captured(registers)).devices;
  return withDevices(PF, { ...device, port: 'root', name: 'vf', physfn: 'pf' });
};

const REFUSED: [string, unknown, RegExp][] = [
  ['256 vectors and pending bits at the default place', withMsix('8K', { vectors: 256 }), /msix\.pbaOffset: .*overlap/],
  [
    'pending bits behind the BAR',
    withMsix('4K', { vectors: 4, pbaOffset: 0x1000 }),
    /msix\.pbaOffset: the pending bit array takes .*BAR 2 has/,
  ],
  ['2,048 vectors in 4 KiB', withMsix('4K', { vectors: 2048 }), /msix\.tableOffset: .*takes .*BAR 2 has 0x1000 bytes/],
  ['more vectors than there are', withMsix('64K', { vectors: 2049 }), /msix\.vectors: .*from 1 to/],
  ['an offset below 0', withMsix('4K', { vectors: 1, tableOffset: -8 }), /msix\.tableOffset/],
  [
    'an offset that is not a multiple of 8',
    withMsix('4K', { vectors: 1, pbaOffset: 0x804 }),
    /pbaOffset: .*multiple of 8/,
  ],
  [
    'a table among I/O ports',
    withDevice({
      bars: [{ index: 0, kind: 'io', size: 256 }],
      capabilities: { msix: { vectors: 1, bar: 0, pbaOffset: 64 } },
    }),
    /msix\.bar: .*I\/O/,
  ],
  [
    'a table in an upper half',
    withDevice({ capabilities: { msix: { vectors: 1, bar: 1 } } }),
    /msix\.bar: the device has no BAR 1 for the table/,
  ],
  [
    'the upper half in the next BAR',
    bars({ index: 0, size: '4K' }, { index: 1, kind: 'mem32', size: '4K' }),
    /bars\.1\.index: .*upper half of BAR 0/,
  ],
  [
    'the upper half in a BAR before it',
    bars({ index: 1, kind: 'mem32', size: '4K' }, { index: 0, size: '4K' }),
    /bars\.1\.index: .*slot 1 of BAR 1/,
  ],
  ['a 64-bit BAR in the last slot', bars({ index: 5, size: '4K' }), /bars\.0\.index: .*two slots/],
  [
    'one slot twice',
    bars({ index: 0, kind: 'mem32', size: '4K' }, { index: 0, kind: 'mem32', size: '4K' }),
    /bars\.1\.index: slot 0 is taken/,
  ],
  ['8 bytes of memory', bars({ index: 0, size: 8 }), /bars\.0\.size: .*16 bytes at least/],
  ['a size between powers of two', bars({ index: 0, size: '3M' }), /bars\.0\.size: .*power of two/],
  ['4 GiB in a 32-bit BAR', bars({ index: 0, kind: 'mem32', size: '4G' }), /bars\.0\.size: .*mem64/],
  [
    '2 times 2 GiB below 4 GiB',
    bars({ index: 0, kind: 'mem32', size: '2G' }, { index: 1, kind: 'mem32', size: '2G' }),
    /bars\.1\.size: .*finds no address/,
  ],
  ['more I/O ports than there are', bars({ index: 0, kind: 'io', size: '64K' }), /bars\.0\.size: .*finds no address/],
  [
    'I/O ports that are prefetchable',
    bars({ index: 0, kind: 'io', size: 32, prefetchable: true }),
    /bars\.0\.prefetchable/,
  ],
  ['more than a BAR can have', bars({ index: 0, size: '128T' }), /bars\.0\.size: a BAR has 64T at most/],
  ['an empty slot', withDevice({ vendor: 0xffff }), /devices\.0\.vendor: .*empty slot/],
  ['a bridge that is an endpoint', withDevice({ class: 0x060400 }), /devices\.0\.class: .*bridge/],
  ['a name that no socket can have', withDevice({ name: 'n'.repeat(33) }), /devices\.0\.name: .*32 characters/],
  ['a name twice', withDevices(pf, pf), /devices\.1\.name: the name pf is taken/],
  [
    'nine functions of a card',
    withDevices(...Array.from({ length: 9 }, (_, i) => ({ ...pf, name: `d${i}` }))),
    /devices\.8\.port: .*8 functions/,
  ],
  ['a virtual function of nothing', withDevices(vf), /devices\.0\.physfn: .*no pf before/],
  ['a virtual function of an ordinary device', withDevices(pf, vf), /devices\.1\.physfn: .*no SR-IOV/],
  [
    'a virtual function of a virtual function',
    withDevices(PF, { ...vf, capabilities: { sriov: { vfDevice: 1 }, express: {} } }),
    /capabilities\.sriov: .*no virtual functions/,
  ],
  ['a virtual function with INTx', withDevices(PF, { ...vf, capabilities: { intx: true } }), /capabilities\.intx/],
  [
    'a virtual function with I/O ports',
    withDevices(PF, { ...vf, bars: [{ index: 0, kind: 'io', size: 4 }] }),
    /bars\.0\.kind: .*no I\/O/,
  ],
  [
    'SR-IOV without PCI Express',
    withDevices({ ...pf, capabilities: { sriov: { vfDevice: 1 } } }),
    /capabilities\.sriov: .*express/,
  ],
  [
    'a root port with a parent',
    withPorts([
      { name: 'root', kind: 'root' },
      { name: 'b', kind: 'root', parent: 'root' },
    ]),
    /ports\.1\.parent/,
  ],
  [
    'a switch in an upstream port',
    withPorts([
      { name: 'root', kind: 'root' },
      { name: 'a', kind: 'upstream', parent: 'root' },
      { name: 'b', kind: 'upstream', parent: 'a' },
    ]),
    /ports\.2\.parent/,
  ],
  [
    'two switches in a port',
    withPorts([
      { name: 'root', kind: 'root' },
      { name: 'a', kind: 'upstream', parent: 'root' },
      { name: 'b', kind: 'upstream', parent: 'root' },
    ]),
    /ports\.2\.parent: there is a switch in root/,
  ],
  [
    'a device beside a switch',
    withPorts([
      { name: 'root', kind: 'root' },
      { name: 'a', kind: 'upstream', parent: 'root' },
    ]),
    /devices\.0\.port: a switch is in root/,
  ],
  [
    'a port below itself',
    withPorts([
      { name: 'root', kind: 'root' },
      { name: 'a', kind: 'upstream', parent: 'a' },
    ]),
    /ports\.1\.parent: there is no port a before/,
  ],
  [
    'more buses than there are',
    withPorts(Array.from({ length: 32 }, (_, i) => ({ name: i === 0 ? 'root' : `r${i}`, kind: 'root' }))),
    /ports\.31\.kind: .*31 root ports/,
  ],
  ['bad hex', withDevice({ model: 'captured', config: 'de 1g', bars: [] }), /devices\.0\.config: "de 1g" is not/],
  ['half a byte', withDevice({ model: 'captured', config: 'de 1', bars: [] }), /devices\.0\.config: "de 1" is not/],
  ['less than a header', captured({}, {}, 32), /config: 32 bytes, and the header alone has 64/],
  ['more than config space', captured({}, {}, 4112), /config: 4112 bytes/],
  ['a bridge', captured({ 12: 0x00010000 }), /config: this is a bridge \(header type 1\); describe it under ports/],
  [
    'a device that was off',
    withDevice({ model: 'captured', config: 'ff'.repeat(256), bars: [] }),
    /config: every byte reads ff/,
  ],
  ['a virtual function without ids', captured({ 0: 0xffffffff }), /config: the vendor id reads ffff/],
  ['an interrupt pin beyond INTD# of a virtual function', capturedVf({ 60: 0x0500 }), /config: interrupt pin 5/],
  ['an interrupt pin beyond INTD#', captured({ 60: 0x0500 }), /config: interrupt pin 5/],
  ['a list that runs in a circle', captured({ 52: 0x40, 64: 0x5001, 80: 0x4005 }), /config: .*0x40 a second time/],
  ['an extended list that runs in a circle', captured({ 256: 0x10010003 }, {}, 4096), /config: .*0x100 a second time/],
  ['a capability in the header', captured({ 52: 0x20 }), /config: a capability at 0x20 lies in the header/],
  [
    'a capability at the end',
    captured({ 52: 0xfc, 252: 0x0001 }),
    /config: PM at 0xfc \(8 bytes\) goes beyond the 256/,
  ],
  [
    'an extended capability at the end',
    captured({ 256: 0xff010003, 4080: 0x00010010 }, {}, 4096),
    /config: SRIOV at 0xff0/,
  ],
  [
    'capabilities that overlap',
    captured({ 52: 0x40, 64: 0x4405, 68: 0x0001 }),
    /config: MSI at 0x40 \(10 bytes\) and PM at 0x44/,
  ],
  ['product data of no capability', captured({}, { vpd: '78' }), /vpd: config has no capability for vital product/],
  [
    'product data without an end',
    captured(VPD_AT_40, { vpd: '82 01 00 41' }),
    /vpd: the resources do not end with an end tag/,
  ],
  ['product data in bad hex', captured(VPD_AT_40, { vpd: '82 01 0' }), /vpd: "82 01 0" is not pairs/],
  [
    'more product data than an address reaches',
    captured(VPD_AT_40, { vpd: `82 fd 7f ${'00'.repeat(0x7ffd)}78` }),
    /vpd: 32769 bytes, and the capability reaches 32768/,
  ],
  ['64 vectors of MSI', captured({ 52: 0x40, 64: 0x000c0005 }), /config: MSI has 32 vectors at most, not 64/],
  ['MSI-X without its BAR', captured({ 52: 0x40, 64: 0x11 }), /bars: MSI-X: the device has no BAR 0 for the table/],
  [
    'MSI-X behind its BAR',
    captured({ 52: 0x40, 64: 0x11, 68: 0x2000 }, bar0),
    /config: MSI-X: the table .*takes 0x2000/,
  ],
  ['MSI-X over its pending bits', captured({ 52: 0x40, 64: 0x000f0011, 72: 0x80 }, bar0), /config: MSI-X: .*overlap/],
  ['MSI-X in BAR 7', captured({ 52: 0x40, 64: 0x11, 68: 7, 72: 7 }, bar0), /bars: MSI-X: .*BAR 7/],
  ['a ROM of 1K', captured({}, { romSize: '1K' }), /romSize: .*2K to 16M/],
  ['no document', null, /: the document: /],
  ['no model', withDevice({ model: undefined }), /devices\.0\.model/],
  [
    'a model that there is not',
    withDevice({ model: 'gpu' }),
    /devices\.0\.model: the models are memory, ioat, virtio-gpu and captured/,
  ],
  ['a field that is not a word', withDevice({ ' ': 1 }), /devices\.0\." ": there is no such field/],
  ['a field that there is not', withDevice({ color: 'red' }), /devices\.0\.color: there is no such field/],
];

for (const [what, object, expected] of REFUSED) {
  test(`refused: ${what}`, () => {
    const result = accepted(JSON.stringify(object, null, 1) ?? '');
    assert.ok(result instanceof DocumentError, 'it is refused');
    assert.match(result.message, expected);
  });
}

const ACCEPTED: [string, unknown][] = [
  ['I/O ports of 1 byte, as legacy IDE has them', captured({}, { bars: [{ index: 1, kind: 'io', size: 1 }] })],
  ['the largest table of MSI-X', withMsix('64K', { vectors: 2048, pbaOffset: 0x8000 })],
  ['pending bits before the table', withMsix('4K', { vectors: 16, tableOffset: 0x800, pbaOffset: 0 })],
  ['2 GiB below 4 GiB', bars({ index: 0, kind: 'mem32', size: '2G' })],
  ['64 TiB', bars({ index: 0, size: '64T' }, { index: 2, size: '64T' }, { index: 4, size: '64T' })],
  ['16 bytes', bars({ index: 5, kind: 'mem32', size: 16 })],
  [
    'eight functions, and virtual ones behind them',
    withDevices(PF, ...Array.from({ length: 20 }, (_, i) => ({ ...vf, name: `v${i}` }))),
  ],
  ['a virtual function with its ids', captured({ 0: 0xffffffff }, { vendor: 0x8086, device: 0x10ca })],
  [
    'config space that reads as ones behind the first 256 bytes',
    captured(Object.fromEntries(Array.from({ length: 960 }, (_, i) => [256 + 4 * i, -1])), {}, 4096),
  ],
  ['the header alone, with a list of capabilities that is elsewhere', captured({ 52: 0x40 }, {}, 64)],
];

for (const [what, object] of ACCEPTED) {
  test(`accepted: ${what}`, () => {
    const result = accepted(JSON.stringify(object));
    if (result instanceof DocumentError) throw result;
    buildAndOpen(result);
  });
}

/** A line of a memory device, as its user writes it in YAML, and what the file is told. */
const LINES: [string, RegExp | null][] = [
  ['bars: [{ index: 0, size: 1MiB }]', /size: a size is a power of two: a number of bytes, or text such as 4K/],
  ['bars: [{ index: 0, size: 1 M }]', /size: a size is a power of two/],
  ['bars: [{ index: 0, size: 1m }]', /size: a size is a power of two/],
  ['bars: [{ index: 0, size: 1.5K }]', /size: a size is a power of two/],
  ['bars: [{ index: 0, size: "0x1000" }]', /size: a size is a power of two/],
  ['bars: [{ index: 0, size: -4096 }]', /size: a size is a power of two/],
  ['bars: [{ index: 0, size: .nan }]', /size: a size is a power of two/],
  ['bars: [{ index: 0, size: 9007199254740993 }]', /size: a BAR has 64T at most/],
  ['bars: [{ index: 0, size: 18446744073709551616 }]', /size: a BAR has 64T at most/],
  ['bars: [{ index: 0, size: 0x1000 }]', null],
  ['bars: [{ index: 0x0, size: 1.048576e6 }]', null],
  ['bars:', /bars: a list \(as in .*\) must be here, not nothing/],
  ['capabilities: []', /capabilities: fields \(as in .*\) must be here, not a list/],
  ['capabilities: { pm: }', /capabilities\.pm: fields \(as in .*\) must be here, not nothing/],
  ['capabilities: { intx: 1 }', /capabilities\.intx: true or false must be here, not a number/],
  ['physfn: 1', /physfn: text must be here, not a number/],
  ['vendor: 0x10de', null],
  ['vendor: 10de', /vendor: a whole number from 0 to 0xffff is needed/],
  ['vendor: 1e5', /vendor: a whole number from 0 to 0xffff is needed/],
];

for (const [line, expected] of LINES) {
  test(`${expected === null ? 'accepted' : 'refused'}: ${line}`, () => {
    const own = line.startsWith('bars') ? line : `bars: [{ index: 0, size: 4K }]\n    ${line}`;
    const result = accepted(
      `machine: m\nports: [{ name: r, kind: root }]\ndevices:\n  - name: d\n    model: memory\n    port: r\n    ${own}\n`,
    );
    if (expected === null) assert.ok(!(result instanceof DocumentError), String(result));
    else assert.match(String(result), expected);
  });
}

test('a document that is not a machine is refused, with what it must be', () => {
  for (const [text, expected] of [
    ['', /:1: the document: fields .*must be here, not nothing/],
    ['[]', /:1: the document: fields .*must be here, not a list/],
    ['machine: m', /:1: ports: it is missing, and has no default: a list/],
    ['machine: m\n---\nmachine: n\n', /:2: the document: a second document begins here, and a file has one/],
    ['ports: [{}]\nmachine: m', /:1: ports\.0\.name: it is missing/],
    [
      'machine: m\nports: [{ name: r, kind: root }]\ndevices: [{ name: d }]',
      /model: it is missing: the models are memory/,
    ],
  ] as const) {
    assert.match(String(accepted(text)), expected);
  }
});

test('a negative number may be written in hexadecimal, as the error says', () => {
  const text = (offset: string) =>
    `machine: m\nhost: { busOffset: ${offset} }\nports: [{ name: r, kind: root }]\n` +
    'devices: [{ name: d, model: ioat, port: r }]\n';
  const busOffset = (offset: string) => {
    const result = accepted(text(offset));
    if (result instanceof DocumentError) throw result;
    return result.host.busOffset;
  };
  assert.deepEqual(['-0x1000', '+0x1000', '-4096', '0x1000'].map(busOffset), [-4096, 4096, -4096, 4096]);
  for (const offset of ['-0x80001000', '4095', '9007199254740993', '0x7ffffffffffff000', '1G']) {
    assert.match(String(accepted(text(offset))), /busOffset: a multiple of 0x1000 from -0x80000000/, offset);
  }
});

test('an error in config names the line of the dump', () => {
  const text = `machine: m
ports: [{ name: r, kind: root }]
devices:
  - name: d
    port: r
    model: captured
    bars: []
    config: |
      00: 86 80 33 15
      10: 00 00 00 00
`;
  assert.throws(
    () => parseMachine(text, 'm.yaml'),
    /^DocumentError: m\.yaml:10: devices\.0\.config: the dump goes on at 10/,
  );
});

test('files that cannot be read are refused with the reason', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-load-'));
  try {
    assert.throws(() => loadMachine(folder), new DocumentError(`${folder}: this is a folder; name a file in it`));
    const missing = join(folder, 'missing.yaml');
    assert.throws(() => loadMachine(missing), new DocumentError(`${missing}: there is no such file`));
    const empty = join(folder, 'empty.yaml');
    writeFileSync(empty, '');
    assert.throws(() => loadMachine(empty), /^DocumentError: .*empty\.yaml:1: the document: /);
    chmodSync(empty, 0);
    // Root can read all files.
    if (process.getuid?.() !== 0) assert.throws(() => loadMachine(empty), /this user may not read it$/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
