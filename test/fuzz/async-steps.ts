/** The calls of the asynchronous client in one step of its fuzzer, by name. */
import assert from 'node:assert/strict';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { closeAll, type OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import type { CallOptions } from '../../src/vfio-user/client/async-channel.ts';
import { type AsyncVfioUserClient, whenReadable } from '../../src/vfio-user/client/async-client.ts';
import { dirtyPages, startDmaLogging, stopDmaLogging } from '../../src/vfio-user/client/dma-logging.ts';
import {
  migrationBytes,
  migrationFlags,
  migrationState,
  setMigrationState,
  writeMigrationData,
} from '../../src/vfio-user/client/migration.ts';
import {
  type ClientSabotage,
  MAX_PIECES,
  PAGE,
  PROBE,
  place,
  slice,
  smallWrites,
  touchAndClose,
} from './client-steps.ts';
import type { FuzzRandom } from './random.ts';

/** The client, and what the server really has. */
export interface AsyncClientWorld {
  client: AsyncVfioUserClient;
  memory: Buffer;
  random: FuzzRandom;
  sabotage: ClientSabotage;
  /** Whether the server told only the truth in this step. */
  isHonest: () => boolean;
  options: CallOptions;
}

export type AsyncOp = (world: AsyncClientWorld) => Promise<unknown>;

async function read({ client, memory, random, sabotage, isHonest, options }: AsyncClientWorld): Promise<void> {
  const { offset, length } = place(random, 40_000);
  const bytes = await client.readRegion(0, offset, length, options);
  sabotage.onRead?.(bytes);
  const isRight = bytes.equals(memory.subarray(offset, offset + length));
  assert.ok(isRight || !isHonest(), `a read of ${length} bytes brought others`);
}

/** The fewest and the most calls that wait at once. */
const AT_ONCE = [2, 8] as const;

function callsAtOnce(world: AsyncClientWorld): Promise<PromiseSettledResult<unknown>[]> {
  const { client, random, options } = world;
  const count = AT_ONCE[0] + random.below(AT_ONCE[1] - AT_ONCE[0] + 1);
  const calls = Array.from({ length: count }, () =>
    random.pick([() => client.info(options), () => client.irqInfo('MSIX', options), () => read(world)])(),
  );
  return Promise.allSettled(calls);
}

function errorsOf(results: readonly PromiseSettledResult<unknown>[]): unknown[] {
  return results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
}

/** Runs `body` with a descriptor that the client lends to the server. */
async function withFd<T extends OwnedFd>(fd: T, body: (fd: T) => Promise<unknown>): Promise<void> {
  try {
    await body(fd);
  } finally {
    fd.close();
  }
}

export const ASYNC_OPS: Readonly<Record<string, AsyncOp>> = {
  info: ({ client, options }) => client.info(options),
  regionInfo: async ({ client, random, options }) =>
    (await client.regionInfo(random.below(10), options)).map?.fd.close(),
  mapRegion: async ({ client, random, sabotage, options }) => {
    const { index, offset, size } = slice(random);
    const mapping = await client.mapRegion(index, offset, size, options);
    sabotage.onRegionFd?.();
    touchAndClose(mapping, size, random);
  },
  irqInfo: ({ client, random, options }) => client.irqInfo(random.pick(['INTX', 'MSI', 'MSIX']), options),
  setEventfds: ({ client, random, options }) =>
    withFd(createEventfd('fuzz'), ({ fd }) =>
      client.setEventfds('MSIX', new Array<number>(random.below(30)).fill(fd), 0, options),
    ),
  disableIrqs: ({ client, options }) => client.disableIrqs('MSIX', options),
  read,
  write: async ({ client, memory, random, options }) => {
    const { offset, length } = place(random, 60_000);
    const bytes = Buffer.alloc(length, random.below(256));
    await client.writeRegion(0, offset, bytes, options);
    assert.ok(memory.subarray(offset, offset + length).equals(bytes), 'a write that was not done');
  },
  post: ({ client, random }) => {
    const { offset, length } = place(random, 60_000);
    return client.postWrite(0, offset, Buffer.alloc(length, random.below(256)));
  },
  writeRegions: async ({ client, random, options }) => {
    const writes = smallWrites(random);
    assert.ok((await client.writeRegions(writes, options)) <= writes.length);
  },
  dmaMap: ({ client, random, options }) =>
    withFd(createMemfd('fuzz', PAGE), ({ fd }) => {
      const iova = BigInt(PAGE) * BigInt(random.edge());
      return client.dmaMap({ iova, sizeBytes: PAGE, ...(random.chance(2) ? { fd } : {}) }, options);
    }),
  dmaUnmap: ({ client, random, options }) => client.dmaUnmap(BigInt(PAGE) * BigInt(random.edge()), PAGE, options),
  feature: async ({ client, options }) => closeAll((await client.feature(PROBE, [], options)).fds),
  migrationFlags: ({ client, options }) => client.run(migrationFlags(), options),
  migrationState: ({ client, options }) => client.run(migrationState(), options),
  setMigrationState: ({ client, random, options }) => client.run(setMigrationState(random.below(8)), options),
  migrationBytes: ({ client, options }) => client.run(migrationBytes(), options),
  migrationData: async ({ client, options }) => {
    let pieces = 0;
    for await (const _ of client.migrationData(options)) if (++pieces === MAX_PIECES) break;
  },
  writeMigrationData: ({ client, random, options }) =>
    client.run(writeMigrationData(client, Buffer.alloc(random.below(9000))), options),
  startDmaLogging: ({ client, options }) => client.run(startDmaLogging(PAGE, [{ iova: 0n, length: 4096n }]), options),
  stopDmaLogging: ({ client, options }) => client.run(stopDmaLogging(), options),
  dirtyPages: ({ client, random, options }) =>
    client.run(dirtyPages(0, PAGE * (1 + random.below(2000)), PAGE), options),
  reset: ({ client, options }) => client.reset(options),
  whenReadable: ({ options }) => withFd(createEventfd('fuzz', 1), ({ fd }) => whenReadable(fd, options)),
  several: async (world) => {
    const errors = errorsOf(await callsAtOnce(world));
    if (errors.length > 0) throw new AggregateError(errors);
  },
  /** The client closes while calls wait: each settles, and rejects with ECANCELED unless it was over before. */
  close: async (world) => {
    const calls = callsAtOnce(world);
    if (world.random.chance(2)) await null;
    world.client.close();
    const errors = errorsOf(await calls).filter((error) => (error as { code?: string }).code !== 'ECANCELED');
    if (errors.length > 0) throw new AggregateError(errors);
  },
};
