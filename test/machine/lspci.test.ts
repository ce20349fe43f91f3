/** lspci's output for real devices becomes machines. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildMachine } from '../../src/machine/build.ts';
import { CaptureError, captureMachine } from '../../src/machine/capture.ts';
import { parseConfigText } from '../../src/machine/config-text.ts';
import { inspectMachine } from '../../src/machine/inspect.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { LspciError, parseLspci } from '../../src/machine/lspci.ts';
import { resetMethods } from '../../src/pci/reset.ts';

const DUMPS = fileURLToPath(new URL('./dumps/', import.meta.url));
const dump = (name: string): string => readFileSync(`${DUMPS}${name}.txt`, 'utf8');

const built = (text: string) => buildMachine(parseMachine(text, 'captured.yaml'));
/** The facts that a reader of lspci looks for. */
const seen = (text: string): unknown[] =>
  inspectMachine(built(captureMachine(parseLspci(text)))).devices.map(({ vendor, device, bars, capabilities }) => [
    `${vendor.toString(16)}:${device.toString(16)}`,
    bars.map(({ index, kind, prefetchable, sizeBytes }) => `${index} ${kind}${prefetchable ? ' p' : ''} ${sizeBytes}`),
    capabilities.map(({ name, offset }) => `${offset.toString(16)} ${name}`),
  ]);

test('a network card: BARs with their kinds and sizes, the ROM, every capability', () => {
  assert.deepEqual(seen(dump('igb')), [
    [
      '8086:10c9',
      ['0 mem32 131072', '1 mem32 131072', '2 io 32', '3 mem32 16384'],
      ['40 PM', '50 MSI', '70 MSIX', 'a0 EXP', '100 ERR', '140 DSN', '150 ARI', '160 SRIOV'],
    ],
  ]);
  const fn = [...built(captureMachine(parseLspci(dump('igb')))).functions.values()][0];
  assert.equal(fn.romSizeBytes, 128 * 1024);
  assert.deepEqual(resetMethods(fn), ['flr', 'pm', 'bus']);
});

test('virtual functions get the ids that their physical one knows, and are its virtual functions', () => {
  const text = captureMachine(parseLspci(dump('igbvf')));
  const functions = [...built(text).functions.values()];
  assert.deepEqual(
    functions.map((fn) => [fn.name, fn.vendorId, fn.deviceId, fn.physfn?.name]),
    [
      ['pci-0000-09-00.0', 0x8086, 0x10c9, undefined],
      ['pci-0000-09-10.0', 0x8086, 0x10ca, 'pci-0000-09-00.0'],
      ['pci-0000-09-10.2', 0x8086, 0x10ca, 'pci-0000-09-00.0'],
    ],
  );
});

test('a virtual function alone keeps its ids beside its config space, and is seen in its slot', () => {
  const [, vf] = parseLspci(dump('igbvf'));
  const text = captureMachine([vf]);
  assert.match(text, /vendor: 32902\n {4}device: 4298\n/);
  const fn = [...built(text).functions.values()][0];
  assert.deepEqual([fn.config.read(0, 2), fn.config.read(2, 2), fn.isVirtfn], [0x8086, 0x10ca, false]);
});

test('legacy IDE: ports without a register are ports, also those of 1 byte', () => {
  assert.deepEqual(seen(dump('piix3')), [['8086:7010', ['0 io 8', '1 io 1', '2 io 8', '3 io 1', '4 io 16'], []]]);
});

test('text without indentation, and with the BARs of virtual functions behind the own ones', () => {
  assert.deepEqual(seen(dump('x722')), [['8086:37d0', ['0 mem64 p 16777216', '3 mem64 p 32768'], []]]);
});

test('regions without a number, as lspci -v prints them, are those whose registers are set', () => {
  const text = dump('igb').replaceAll(/Region \d: /g, '');
  assert.deepEqual(seen(text), seen(dump('igb')));
});

test('numbers for names, and text with spaces for tabs and the line ends of Windows', () => {
  const plain = seen(dump('cxl-memory'));
  assert.deepEqual(plain, [['8086:ddb', ['0 mem32 2097152', '2 mem64 p 131072'], []]]);
  assert.deepEqual(seen(dump('cxl-memory').replaceAll('\t', '        ').replaceAll('\n', '\r\n')), plain);
});

test('a device that is off is refused with the reason and the next step', () => {
  assert.throws(
    () => captureMachine(parseLspci(dump('off'))),
    (error: Error) => {
      assert.ok(error instanceof CaptureError);
      assert.match(error.message, /^0000:01:00\.0: every byte reads ff: .*wake it .*capture again$/);
      return true;
    },
  );
});

test('of a whole machine bridges and devices that are off are left out, with the reason in a comment', () => {
  const devices = parseLspci(`${dump('igb')}\n${dump('off')}\n${dump('piix3')}`);
  const bridge = { ...devices[0], bdf: '0000:00:1c.0', config: Buffer.from(devices[0].config) };
  bridge.config[0x0e] = 1;
  const text = captureMachine([...devices, bridge]);
  assert.match(text, /^# Left out: 0000:01:00\.0: every byte reads ff/m);
  assert.match(text, /^# Left out: 0000:00:1c\.0: this is a bridge \(header type 1\)/m);
  assert.deepEqual([...built(text).functions.keys()], ['pci-0000-00-01.1', 'pci-0000-09-00.0']);
});

test('a device whose text is not enough is left out of a whole machine, and refused alone', () => {
  const broken = (change: (text: string) => string) => change(dump('igb'));
  for (const [text, reason] of [
    [dump('fiji'), /it has BARs, and the text does not say their sizes; run lspci -vvv -xxxx/],
    [broken((igb) => igb.replace(/^80: .*\n/m, '')), /the dump goes on at 90, where 80 would come next/],
    [broken((igb) => igb.replace(/^(80: .*)/m, '$1\n$1')), /the dump goes on at 80, where 90 would come next/],
    [broken((igb) => igb.replace(/^(80: .*) ..$/m, '$1')), /the dump goes on at 90, where 8f would come next/],
  ] as const) {
    const alone = () => captureMachine(parseLspci(text));
    assert.throws(alone, (error: Error) => error instanceof CaptureError && reason.test(error.message));
    const whole = captureMachine(parseLspci(`${text}\n${dump('piix3')}`));
    assert.match(whole.split('\n')[0], /^# Left out: 0000:09:00\.0: /);
    assert.deepEqual([...built(whole).functions.keys()], ['pci-0000-00-01.1']);
  }
});

test('text from terminals, mails and issues: prompts, quotes, indentation, fences, domains, any line ends', () => {
  const igb = dump('igb');
  const plain = seen(igb);
  const lines = (change: (line: string) => string) => igb.split('\n').map(change).join('\n');
  for (const text of [
    `$ sudo lspci -vvv -xxxx\n${igb}$ \n`,
    lines((line) => `> ${line}`),
    lines((line) => `>> ${line}`),
    lines((line) => `    ${line}`),
    `\`\`\`\n${igb}\n\`\`\`\n`,
    igb.replaceAll('\n', '\r'),
    `0000:${igb}`,
    igb.replace('09:00.0', '10000:e1:00.0'),
    `${igb}\tKernel driver in use: igb\n\tKernel modules: igb\n`,
    igb.replace('\n40: ', '\n\tKernel driver in use: igb\n40: '),
    `\ufeff${igb}`,
  ]) {
    assert.deepEqual(seen(text), plain, text.slice(0, 60));
  }
});

test('slots beyond the root ports go below switches, and functions of a card stay together', () => {
  const [device] = parseLspci(dump('piix3'));
  const many = Array.from({ length: 72 }, (_, i) => {
    const slot = (i >> 1).toString(16).padStart(2, '0');
    return { ...device, bdf: `0000:01:${slot}.${i & 1}`, bars: [] };
  });
  const { fabric, functions } = built(captureMachine(many));
  assert.deepEqual([functions.size, fabric.rootPorts.length], [72, 2]);
  assert.equal(functions.get('pci-0000-01-03.0')!.parent, functions.get('pci-0000-01-03.1')!.parent);
});

test('what is missing in the text is named, with the command that prints it', () => {
  const refused = (text: string, expected: RegExp) =>
    assert.throws(
      () => parseLspci(text),
      (error: Error) => error instanceof LspciError && expected.test(error.message),
    );
  refused('', /not the output of lspci/);
  refused('hello\n', /not the output of lspci/);
  refused('01:00.0 VGA compatible controller: x\n\tRegion 0: Memory at 0 (32-bit) [size=4K]\n', /no dump .*as root/);
  refused(`${dump('igb')}\n${dump('igb')}`, /0000:09:00\.0 comes twice in the text; keep one/);
});

/** A BAR for each BAR register of the dump, with the smallest size that fits its address. */
function guessedBars(config: Uint8Array): object[] {
  const view = Buffer.from(config);
  const bars: object[] = [];
  for (let index = 0; index < 6; index++) {
    const register = view.readUInt32LE(0x10 + 4 * index);
    if (register === 0) continue;
    const kind = (register & 1) !== 0 ? 'io' : (register & 6) === 4 ? 'mem64' : 'mem32';
    bars.push({ index, kind, size: kind === 'io' ? 32 : '16K' });
    if (kind === 'mem64') index += 1;
  }
  return bars;
}

for (const file of readdirSync(DUMPS).filter((name) => name.endsWith('.txt') && name !== 'off.txt')) {
  test(`the dumps of ${file} can be pasted as config, with their header, their text and their offsets`, () => {
    for (const block of readFileSync(`${DUMPS}${file}`, 'utf8').split(/\n\n/)) {
      const config = parseConfigText(block);
      const machine = {
        machine: 'm',
        ports: [{ name: 'r', kind: 'root' }],
        devices: [{ name: 'd', port: 'r', model: 'captured', config: block, bars: guessedBars(config) }],
      };
      const isBridge = (config[0x0e] & 0x7f) === 1;
      const isVirtfn = Buffer.from(config).readUInt16LE(0) === 0xffff;
      const parse = () => parseMachine(JSON.stringify(machine), 'm.yaml');
      if (isBridge) assert.throws(parse, /this is a bridge/);
      else if (isVirtfn) assert.throws(parse, /the vendor id reads ffff/);
      else assert.equal(buildMachine(parse()).functions.size, 1);
    }
  });
}

test('config takes a dump with the words of lspci around and within it, and refuses bytes that are none', () => {
  const dumped = dump('igb')
    .split('\n')
    .filter((line) => /^[0-9a-f]{2,3}: /.test(line))
    .join('\n');
  const bytes = parseConfigText(dumped);
  assert.ok(bytes.length > 256);
  for (const text of [
    `${dumped}\n\tKernel driver in use: igb\n\tKernel modules: igb\n`,
    dumped.replace('\n40: ', '\n\tKernel modules: igb\n40: '),
    `09:00.0 0200: 8086:10c9 (rev 01)\n\tSubsystem: 8086:a03c\n\tFlags: bus master\n${dumped}\n\n\tKernel modules: igb\n`,
    dumped.replaceAll(/^/gm, '> '),
    dumped.replaceAll('\n', '\r'),
  ]) {
    assert.deepEqual(parseConfigText(text), bytes, text.slice(0, 40));
  }
  for (const [text, line] of [
    [dumped.replace('\n40: ', '\n40: 1g '), 4],
    [dumped.replace('\n40: ', '\n0x40: '), 4],
    [dumped.replace('\n40: ', '\n4g: '), 4],
    [dumped.replaceAll(/^[0-9a-f]+: /gm, '').replace('\n', '\nKernel modules: igb\n'), 1],
  ] as const) {
    assert.throws(() => parseConfigText(text), { name: 'ConfigTextError', line });
  }
});
