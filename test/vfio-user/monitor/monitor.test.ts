/** A watched server: what it tells of clients, buffers and waits, and its commands. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImporterProcess } from '../../../src/demo/importer-process.ts';
import { serveMachine } from '../../../src/machine/served.ts';
import { VfioUserClient } from '../../../src/vfio-user/client/client.ts';
import type { ControlCommand } from '../../../src/vfio-user/monitor/control.ts';
import type { LifeEvent } from '../../../src/vfio-user/monitor/life.ts';
import type { ServerState } from '../../../src/vfio-user/monitor/state.ts';
import { enableMemory, exportBuffer } from '../lent.ts';
import { MACHINE, TestServer } from '../served.ts';

const folder = new TestServer().folder;
const served = await serveMachine(MACHINE, { socketDir: folder, watch: { control: true } });
after(() => served.stop());
const watcher = served.watcher!;
const [lender] = served.devices;

const run = (command: ControlCommand) => watcher.control(command);
const device = 'lender';

/** The kinds of the events since the last call. */
function kinds(): string[] {
  const { events, dropped } = watcher.events.take();
  assert.equal(dropped, 0);
  return events.map((event: LifeEvent) => event.kind);
}

async function stateWhere(holds: (state: ServerState) => boolean): Promise<ServerState> {
  for (const deadline = performance.now() + 10_000; ; await sleep(2)) {
    const state = await watcher.state();
    if (holds(state)) return state;
    assert.ok(performance.now() < deadline, JSON.stringify(state));
  }
}

test('a client and its buffer: who, which ranges, which importer, which cause', async () => {
  const client = new VfioUserClient(lender.socket);
  enableMemory(client, true);
  const buffer = exportBuffer(client, { ranges: [[65536, 4096]] });
  const importer = new ImporterProcess(buffer);
  await importer.next('mapped');
  const { devices, buffers } = await watcher.state();
  assert.equal(devices[0].client?.pid, process.pid);
  assert.deepEqual(buffers[0].ranges, [{ region: 0, offset: 65536, sizeBytes: 4096 }]);
  assert.deepEqual(
    buffers[0].importers.map(({ name, mappings }) => [name, mappings]),
    [[`process ${importer.pid}`, 1]],
  );
  assert.deepEqual(kinds(), ['connect', 'export', 'attach', 'map']);
  client.reset();
  await importer.next('revoked');
  const { events } = watcher.events.take();
  assert.deepEqual(
    events.slice(0, 3).map(({ kind }) => kind),
    ['revoke', 'let-go', 'revoked'],
  );
  const end = events.find(({ kind }) => kind === 'revoked');
  assert.ok(end?.kind === 'revoked' && end.cause === 'reset' && end.ms > 0);
  assert.equal(watcher.counters.read(0).revokes.find(({ cause }) => cause === 'reset')?.duration.count, 1);
  await importer.end();
  buffer.close();
  client.close();
  await stateWhere((state) => state.buffers.length === 0 && state.devices[0].client === null);
  assert.ok(kinds().includes('release'));
});

test('each trigger names itself as the cause, on the page’s own device too', async () => {
  await run({ op: 'export', device, region: 0, offset: 0, sizeBytes: 4096 });
  const causes: string[] = [];
  const pull = async (...commands: ControlCommand[]) => {
    for (const command of commands) await run(command);
    for (const event of watcher.events.take().events) if (event.kind === 'revoked') causes.push(event.cause);
  };
  await pull({ op: 'memory', device, on: false }, { op: 'memory', device, on: true });
  await pull({ op: 'power', device, state: 3 }, { op: 'power', device, state: 0 });
  await pull({ op: 'memory', device, on: true }, { op: 'flr', device }, { op: 'memory', device, on: true });
  await pull({ op: 'reset', device }, { op: 'memory', device, on: true });
  await pull({ op: 'hot-reset', device }, { op: 'memory', device, on: true });
  await pull({ op: 'low-power', device, on: true }, { op: 'low-power', device, on: false });
  await pull({ op: 'close', device });
  assert.deepEqual(causes, ['memory bit', 'power state', 'FLR', 'reset', 'hot reset', 'low power', 'close']);
  const { buffers, control } = await watcher.state();
  await assert.rejects(run({ op: 'close', device }), /ENODEV/);
  await run({ op: 'close-buffer', buffer: buffers[0].id });
  assert.deepEqual(control?.open, []);
});

test('a revoke that waits shows who waits, on whom, and which locks are held meanwhile', async () => {
  await run({ op: 'export', device, region: 0, offset: 0, sizeBytes: 4096 });
  const { buffers } = await watcher.state();
  await run({ op: 'import', buffer: buffers[0].id, device: 'borrower', holdMs: 400 });
  const revoke = run({ op: 'memory', device, on: false });
  const state = await stateWhere(({ waits }) => waits.some(({ waitsFor }) => waitsFor === 'vfio_pci_dma_buf.kref'));
  assert.deepEqual(state.waits[0].on, ['borrower']);
  assert.ok(state.locks.some(({ lock, holders }) => /memory_lock of lender/.test(lock) && holders.length === 1));
  assert.ok(state.buffers[0].revokingMs !== null);
  const second = run({ op: 'memory', device, on: true });
  const both = await stateWhere(({ locks }) => locks.some(({ waiters }) => waiters.length > 0));
  assert.ok(both.locks.some(({ lock }) => /memory_lock of lender/.test(lock)));
  await Promise.all([revoke, second]);
  const { control } = await stateWhere(({ waits }) => waits.length === 0);
  await run({ op: 'drop-import', importer: control!.imports[0].id });
  await run({ op: 'close-buffer', buffer: buffers[0].id });
  await run({ op: 'close', device });
});

test('the page takes nothing from a client, and says why', async () => {
  const client = new VfioUserClient(lender.socket);
  enableMemory(client, true);
  const other = new VfioUserClient(served.devices[1].socket);
  const buffer = exportBuffer(client);
  const { buffers } = await watcher.state();
  const { id } = buffers[0];
  await assert.rejects(run({ op: 'import', buffer: id, device: 'borrower', holdMs: 0 }), /EBUSY: borrower belongs to/);
  await assert.rejects(run({ op: 'close', device }), /ENODEV/);
  await assert.rejects(run({ op: 'close-buffer', buffer: id }), /ENOENT/);
  await assert.rejects(run({ op: 'import', buffer: 9999, device: 'bystander', holdMs: 0 }), /ENOENT/);
  await assert.rejects(run({ op: 'flr', device: 'nobody' }), /ENOENT/);
  await run({ op: 'flr', device });
  assert.equal(client.regionInfo(0).sizeBytes, 1 << 20, 'the client goes on');
  buffer.close();
  other.close();
  client.close();
});
