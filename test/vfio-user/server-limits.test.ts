/**
 * Everything at its limits at once: no combination of what clients and importers may do delays a bystander by more than
 * 250 ms of the server's work, or a revoke beyond its promise. The figures are printed.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_RUNNING,
  vfio_device_feature,
} from '../../src/abi/vfio-feature.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../src/abi/vfio-type1.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  vfio_user_device_feature_dma_logging_control,
  vfio_user_device_feature_dma_logging_report,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_mig_data,
  vfio_user_region_io_fds,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../src/abi/vfio-user.ts';
import type { DmaLog } from '../../src/vfio/dma-logging.ts';
import { MAX_LOG_BLOCKS } from '../../src/vfio/dma-logging.ts';
import { IMPORTER_LIMITS, IMPORTER_TIMEOUT_MS } from '../../src/vfio-user/dma-buf/limits.ts';
import { snapshot } from '../../src/vfio-user/monitor/snapshot.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import {
  accessOf,
  exportAll,
  type Figures,
  Flood,
  FullServer,
  fillSession,
  machineOf,
  mapAllFiles,
  mapAllRegions,
  mappingSession,
  memoryWrite,
  noReply,
  PAGE,
  REGIONS_AT,
  sendAll,
} from './full-server.ts';
import { InProcessServer } from './in-process.ts';
import { message, RawClient } from './raw-client.ts';

/** The most work, in ms, for which a bystander may have to wait. */
const MAX_WAIT_MS = 250;
const PMCSR = 0x44;
const LENDERS = ['lender-0', 'lender-1', 'lender-2', 'lender-3'] as const;
const CAPABILITIES = 'capabilities: { pm: {}, express: { flr: true } }';
const memoryOf = (size: string) =>
  `model: memory, bars: [{ index: 0, kind: mem64, prefetchable: true, size: ${size} }], ${CAPABILITIES}`;
const MEMORY = memoryOf('1M');
const LARGE = memoryOf('64M');
const ENGINE = `model: ioat, ${CAPABILITIES}`;
const MACHINE = machineOf({
  ...Object.fromEntries(LENDERS.map((name) => [name, MEMORY])),
  maps: ENGINE,
  files: ENGINE,
  borrows: ENGINE,
  moves: LARGE,
  writes: MEMORY,
  reads: LARGE,
  bystander: MEMORY,
});

const feature = (number: number, data: Uint8Array, room = data.length) =>
  noReply(
    VFIO_USER_DEVICE_FEATURE,
    Buffer.concat([vfio_device_feature.encode({ argsz: 8 + room, flags: number }), data]),
  );

const UNMAP_ALL = vfio_user_dma_unmap.encode({ argsz: 24, flags: VFIO_DMA_UNMAP_FLAG_ALL, addr: 0, size: 0 });

/** WRITE_MULTI of as many writes as fit into a message. */
function manyWrites(): Buffer {
  const count = Math.floor((LIMITS.maxDataXferBytes - 64) / vfio_user_write_one.sizeof);
  const one = vfio_user_write_one.encode({ offset: 0, region: 0, count: 8 });
  const payload = [vfio_user_region_write_multi.encode({ wr_cnt: count }), ...new Array<Buffer>(count).fill(one)];
  return noReply(VFIO_USER_REGION_WRITE_MULTI, Buffer.concat(payload));
}

const setState = (state: number) => {
  const data = Buffer.alloc(8);
  data.writeUInt32LE(state);
  return feature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE | VFIO_DEVICE_FEATURE_SET, data);
};
const LOG_START = feature(
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START | VFIO_DEVICE_FEATURE_SET,
  vfio_user_device_feature_dma_logging_control.encode({ page_size: PAGE, num_ranges: 0 }),
);
/** A report of as many pages of a size as one message holds. */
const reportOf = (pageBytes: number) => {
  const bits = 4 * LIMITS.maxDataXferBytes;
  const fields = { iova: 0n, length: BigInt(pageBytes) * BigInt(bits), page_size: pageBytes };
  const request = vfio_user_device_feature_dma_logging_report.encode(fields);
  return feature(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | VFIO_DEVICE_FEATURE_GET, request, request.length + bits / 8);
};

/** What each client sends in every round, for as long as its socket takes it. */
const FLOODS: Readonly<Record<string, readonly Buffer[]>> = {
  maps: [
    noReply(
      VFIO_USER_DMA_UNMAP,
      vfio_user_dma_unmap.encode({ argsz: 24, flags: 0, addr: REGIONS_AT, size: 1024 * PAGE }),
    ),
    ...Array.from({ length: 1024 }, (_, i) =>
      noReply(
        VFIO_USER_DMA_MAP,
        vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr: REGIONS_AT + i * PAGE, size: PAGE }),
      ),
    ),
  ],
  files: [
    noReply(VFIO_USER_DEVICE_GET_REGION_IO_FDS, vfio_user_region_io_fds.encode({ argsz: 16 + 16 * 24, index: 0 })),
  ],
  borrows: [noReply(VFIO_USER_DEVICE_RESET)],
  moves: [
    noReply(VFIO_USER_MIG_DATA_READ, vfio_user_mig_data.encode({ argsz: 8 + (1 << 20), size: 1 << 20 })),
    feature(VFIO_DEVICE_FEATURE_MIG_DATA_SIZE | VFIO_DEVICE_FEATURE_GET, Buffer.alloc(8)),
    reportOf(PAGE),
    reportOf(2 ** 40),
    setState(VFIO_DEVICE_STATE_RUNNING),
    setState(VFIO_DEVICE_STATE_PRE_COPY),
  ],
  writes: [manyWrites()],
  reads: [message({ command: VFIO_USER_REGION_READ }, accessOf(0, 0, 1 << 20))],
  'lender-0': [
    noReply(VFIO_USER_REGION_WRITE, accessOf(0, 0, LIMITS.maxDataXferBytes, Buffer.alloc(LIMITS.maxDataXferBytes))),
  ],
};

/** The pages that an engine has written in every block that a log may have: a few blocks wholly, the others once. */
function dirty(log: DmaLog): void {
  log.written(0, 4 * LIMITS.maxDataXferBytes * PAGE);
  for (let block = 0; block < MAX_LOG_BLOCKS; block++) log.written(block * 2 ** 27, 1);
}

/** Maps as many lent buffers of another server as a client may have. Returns what must be closed at the end. */
function borrowAll(served: FullServer, client: RawClient): { close(): void }[] {
  const lenders = new InProcessServer(machineOf({ lender: MEMORY }));
  const lender = lenders.ready('lender');
  lender.send(memoryWrite(true));
  lenders.pump();
  lender.tryReceive();
  const lent = exportAll(lenders, lender, LIMITS.maxBorrowed);
  assert.equal(lent.length, LIMITS.maxBorrowed);
  for (const [i, { fd }] of lent.entries()) {
    const region = { argsz: 32, flags: 3, addr: REGIONS_AT + i * PAGE, size: PAGE };
    client.send(message({ command: VFIO_USER_DMA_MAP }, vfio_user_dma_map.encode(region)), [fd]);
    let reply = client.tryReceive();
    for (; reply === undefined; reply = client.tryReceive()) for (const each of [served, lenders]) each.pump();
    assert.equal(reply!.error, 0);
  }
  return [...lent, lender, lenders];
}

/** Brings all clients and importers to their limits. Returns the clients by device, and all that must be closed. */
function fill(served: FullServer): { clients: Map<string, RawClient>; held: { close(): void }[] } {
  const devices = [...new Set([...LENDERS, ...Object.keys(FLOODS)])];
  const clients = new Map(devices.map((device) => [device, served.ready(device)]));
  // First, because the limit of mapped ranges counts those of both servers of this process.
  const held = borrowAll(served, clients.get('borrows')!);
  for (const lender of LENDERS) {
    const client = clients.get(lender)!;
    client.send(memoryWrite(true));
    served.pump();
    client.tryReceive();
    const lent = exportAll(served, client, LIMITS.maxExports);
    const filled = IMPORTER_LIMITS.maxSessionsOfAll / IMPORTER_LIMITS.maxSessions / LENDERS.length;
    for (const buffer of lent.slice(0, filled)) {
      for (let i = 0; i < IMPORTER_LIMITS.maxSessions; i++) held.push(fillSession(served, buffer));
    }
    held.push(...lent);
  }
  mapAllRegions(served, clients.get('maps')!);
  mapAllFiles(served, clients.get('files')!);
  const most = LIMITS.maxDataXferBytes;
  const writes = Array.from({ length: 64 }, (_, i) =>
    noReply(VFIO_USER_REGION_WRITE, accessOf(0, i * most, most, Buffer.alloc(most, 7))),
  );
  sendAll(served, clients.get('moves')!, [...writes, LOG_START, setState(VFIO_DEVICE_STATE_PRE_COPY)]);
  for (const device of devices) {
    for (let i = 0; i < LIMITS.maxWaitingClients; i++) {
      held.push(new RawClient(served.path(device)));
      served.pump();
    }
  }
  return { clients, held };
}

/** Prints what the server took since the last time, and checks the bystander's wait. */
function check(t: TestContext, what: string, { longestTurn, longestWait, all }: Figures): void {
  const figures = `longest turn ${longestTurn.toFixed(1)} ms, the bystander waited for ${longestWait.toFixed(1)} ms`;
  t.diagnostic(`${what}: ${figures} at most; ${all.toFixed(0)} ms of work in all`);
  assert.ok(longestWait < MAX_WAIT_MS, `${what}: ${longestWait} ms`);
}

test('everything at its limits at once: the bystander and the revokes keep their times', (t) => {
  const served = new FullServer(MACHINE);
  const { clients, held } = fill(served);
  const say = (what: string) => check(t, what, served.take());
  const limits = snapshot(served.server, null).limits.filter(({ used, most }) => used >= most);
  t.diagnostic(`at their limits: ${[...new Set(limits.map(({ limit }) => limit))].join(', ')}`);
  served.take();
  const log = served.devices.get('moves')!.pdev.dmaLog as DmaLog;
  const floods = new Map(
    Object.entries(FLOODS).map(([device, messages]) => [device, new Flood(clients.get(device)!, messages)]),
  );
  for (let round = 0; round < 8; round++) {
    dirty(log);
    for (const each of floods.values()) each.pour();
    for (let i = 0; i < 20; i++) served.turn();
    snapshot(served.server, null);
  }
  say('floods of all clients');
  for (const device of ['maps', 'lender-0']) floods.get(device)!.end(served);
  const [first, second, third, fourth] = LENDERS.map((name) => clients.get(name)!);
  const maps = clients.get('maps')!;
  first.send(message({ command: VFIO_USER_REGION_WRITE }, accessOf(7, PMCSR, 2, Buffer.from([3, 0]))));
  second.send(memoryWrite(false));
  third.send(message({ command: VFIO_USER_DEVICE_RESET }));
  maps.send(message({ command: VFIO_USER_DMA_UNMAP }, UNMAP_ALL));
  const start = performance.now();
  fourth.close();
  for (const device of ['files', 'borrows', 'moves', 'writes', 'reads']) clients.get(device)!.close();
  const waiting = new Set([first, second, third, maps]);
  while (waiting.size > 0) {
    for (const client of waiting) if (client.tryReceive() !== undefined) waiting.delete(client);
    served.turn();
  }
  const tookMs = performance.now() - start;
  t.diagnostic(`revokes of four devices: ${tookMs.toFixed(0)} ms; importers had ${IMPORTER_TIMEOUT_MS} ms`);
  // One after the other, the buffers would take eight times as long. The rest is the server's work.
  assert.ok(tookMs < 2 * IMPORTER_TIMEOUT_MS, `${tookMs} ms`);
  assert.equal(served.devices.get('lender-0')!.pdev.powerState.value, 3);
  say('revokes, and the ends of clients');
  for (const each of [first, second, third, maps, ...held]) each.close();
  served.close();
});

test('clients of many devices that all send without end share the time of a round', (t) => {
  const names = Array.from({ length: 60 }, (_, i) => `device-${i}`);
  const server = new FullServer(machineOf(Object.fromEntries([...names, 'bystander'].map((name) => [name, MEMORY]))));
  const clients = names.map((name) => server.ready(name));
  const resets = new Array<Buffer>(1024).fill(noReply(VFIO_USER_DEVICE_RESET));
  const floods = clients.map((client) => new Flood(client, resets));
  for (let round = 0; round < 10; round++) {
    for (const flood of floods) flood.pour();
    for (let i = 0; i < 4; i++) server.turn();
    // The first round compiles the code.
    if (round === 0) server.take();
  }
  const figures = server.take();
  for (const client of clients) client.close();
  server.close();
  check(t, `${names.length} clients`, figures);
});

test('sessions of importers that all map and unmap without end', (t) => {
  const server = new FullServer(machineOf({ lender: MEMORY, bystander: MEMORY }));
  const client = server.ready('lender');
  client.send(memoryWrite(true));
  server.pump();
  client.tryReceive();
  const { maxRanges, maxSessions, maxSessionsOfAll, maxMappedRangesOfAll } = IMPORTER_LIMITS;
  const ranges = Math.min(maxRanges, maxMappedRangesOfAll / maxSessionsOfAll);
  const buffers = exportAll(server, client, maxSessionsOfAll / maxSessions, ranges);
  const sessions = buffers.flatMap((buffer) =>
    Array.from({ length: maxSessions }, () => mappingSession(server, buffer)),
  );
  for (let round = 0; round < 5; round++) {
    for (const session of sessions) session.pour();
    for (let i = 0; i < 20; i++) server.turn();
    if (round === 0) server.take();
  }
  const figures = server.take();
  for (const each of [...sessions, ...buffers, client]) each.close();
  server.close();
  check(t, `${sessions.length} sessions, buffers of ${ranges} ranges`, figures);
});
