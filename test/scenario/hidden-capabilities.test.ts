import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { given, runScenario } from '../../src/scenario/run.ts';
import { type Step, scenarioSchema } from '../../src/scenario/step.ts';

/** A config space of 4 KiB with the given registers. */
function configText(registers: Record<number, number>): string {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32LE(0x0b011b36, 0);
  bytes.writeUInt16LE(0x0010, 6);
  for (const [at, value] of Object.entries(registers)) bytes.writeUInt32LE(value, Number(at));
  return bytes.toString('hex');
}

function answers(registers: Record<number, number>, steps: Step[]): unknown[] {
  const machine = {
    machine: 'hidden',
    ports: [{ name: 'root', kind: 'root' }],
    devices: [{ name: 'lender', model: 'captured', port: 'root', config: configText(registers), bars: [] }],
  };
  const scenario = scenarioSchema.parse({
    scenario: 'hidden',
    description: 'reads the lists of capabilities',
    machine: 'hidden',
    tasks: { user: [{ op: 'open', device: 'lender' }, ...steps] },
  });
  const parsed = parseMachine(JSON.stringify(machine), 'hidden.yaml');
  const { steps: results } = runScenario(scenario, new EngineBackend(buildMachine(parsed)));
  return results.slice(1).map(({ result }) => given(result));
}

const read = (offset: number, size: 1 | 2 | 4): Step => ({ op: 'config-read', device: 'lender', offset, size });
const HIDDEN = [0x00, 0x04, 0x06, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x14];

test('each standard capability that a user must not see is left out of the list, at its start, middle and end', () => {
  for (const id of HIDDEN) {
    // Hidden, PM, hidden, MSI, hidden.
    const registers = { 52: 0x40, 64: 0x5000 | id, 80: 0x6001, 96: 0x7000 | id, 112: 0x9005, 144: id };
    const seen = answers(registers, [read(0x34, 1), read(0x50, 2), read(0x70, 2)]);
    assert.deepEqual(seen, [0x50, 0x7001, 0x0005], `capability 0x${id.toString(16)}`);
  }
});

test('a hidden first extended capability keeps its place and its next pointer, others go', () => {
  // Secondary PCI Express (hidden), serial number, data object exchange (hidden), ARI.
  const registers = { 256: 0x14010019, 320: 0x15010003, 336: 0x1601002e, 352: 0x0001000e };
  const find = (cap: number): Step => ({ op: 'cap-read', device: 'lender', cap, ext: true, offset: 0, size: 2 });
  const seen = answers(registers, [read(0x100, 4), read(0x140, 4), find(0x0e), find(0x19), find(0x2e)]);
  assert.deepEqual(seen, [0x14000000, 0x16010003, 0x0e, 'ENOENT', 'ENOENT']);
});

test('a write never reaches a register that is hidden for good, nor the header of a capability that is shown', () => {
  const registers = { 52: 0x40, 64: 0x0001, 256: 0x14010019, 320: 0x00010003 };
  const write = (offset: number): Step => ({
    op: 'config-write',
    device: 'lender',
    offset,
    size: 4,
    value: 0xffffffff,
  });
  const seen = answers(registers, [
    write(0x40),
    read(0x40, 2),
    write(0x100),
    read(0x100, 4),
    write(0x140),
    read(0x140, 4),
  ]);
  assert.deepEqual(seen, [null, 0x0001, null, 0x14000000, null, 0x00010003]);
});
