/** What a client does in one step of the fuzzer, by name. A step's seed decides everything else. */
import assert from 'node:assert/strict';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { closeAll, type OwnedFd } from '../../src/linux/fd.ts';
import type { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import type { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { dirtyPages, startDmaLogging, stopDmaLogging } from '../../src/vfio-user/client/dma-logging.ts';
import {
  migrationBytes,
  migrationFlags,
  migrationState,
  setMigrationState,
  writeMigrationData,
} from '../../src/vfio-user/client/migration.ts';
import type { RegionWrite } from '../../src/vfio-user/client/write-multi.ts';
import { REGION_BYTES } from './honest-device.ts';
import type { FuzzRandom } from './random.ts';

/** For the canaries: the behaviour of a broken client. */
export interface ClientSabotage {
  /** Called with what a read brought. */
  onRead?: (bytes: Buffer) => void;
  /** Called after each region info with a descriptor. */
  onRegionFd?: () => void;
}

/** The client, and what the server really has. */
export interface ClientWorld {
  client: VfioUserClient;
  memory: Buffer;
  random: FuzzRandom;
  sabotage: ClientSabotage;
  /** Whether the server told only the truth in this step. */
  isHonest: () => boolean;
}

export const PAGE = 4096;
export const MAX_PIECES = 10;

/** A DEVICE_FEATURE that probes. */
export const PROBE = Buffer.from(new Uint32Array([8, 0x40001]).buffer);

export type ClientOp = (world: ClientWorld) => void;

export function place(random: FuzzRandom, most: number): { offset: number; length: number } {
  const length = random.pick([1, 2, 4, 8, 8, 3, 100, 5000, most]);
  return { offset: random.below(REGION_BYTES - Math.min(length, REGION_BYTES - 1)), length };
}

/** What an honest server sends is what arrives. */
function read({ client, memory, random, sabotage, isHonest }: ClientWorld): void {
  const { offset, length } = place(random, 40_000);
  const into = Buffer.alloc(length);
  client.readRegion(0, offset, into);
  sabotage.onRead?.(into);
  const isRight = into.equals(memory.subarray(offset, offset + length));
  assert.ok(isRight || !isHonest(), `a read of ${length} bytes brought others`);
}

function write({ client, memory, random }: ClientWorld, isPosted: boolean): void {
  const { offset, length } = place(random, 60_000);
  const bytes = Buffer.alloc(length, random.below(256));
  client.writeRegion(0, offset, bytes, isPosted);
  if (!isPosted) assert.ok(memory.subarray(offset, offset + length).equals(bytes), 'a write that was not done');
}

function map({ client, random, sabotage }: ClientWorld): void {
  const { index, offset, size } = slice(random);
  const mapping = client.mapRegion(index, offset, size);
  sabotage.onRegionFd?.();
  touchAndClose(mapping, size, random);
}

/** A slice of a region, inside of its areas or not. */
export function slice(random: FuzzRandom): { index: number; offset: number; size: number } {
  const index = random.pick([0, 0, 2, 2, 5]);
  const [offset, size] = random.pick([
    [0, PAGE],
    [0, 16384],
    [32768, 32768],
    [4096, PAGE],
    [PAGE * random.below(20), PAGE * random.below(20)],
  ]);
  return { index, offset, size };
}

export function touchAndClose(mapping: Mapping, size: number, random: FuzzRandom): void {
  try {
    const bytes = Buffer.alloc(64);
    mapping.read(random.below(size - 63), bytes);
    mapping.write(random.below(size - 63), bytes);
  } finally {
    mapping.close();
  }
}

/** Runs `body` with a descriptor that the client lends to the server. */
function withFd<T extends OwnedFd>(fd: T, body: (fd: T) => void): void {
  try {
    body(fd);
  } finally {
    fd.close();
  }
}

export function smallWrites(random: FuzzRandom): RegionWrite[] {
  return Array.from({ length: random.below(500) }, (_, i) => ({ region: 0, offset: 8 * i, bytes: Buffer.alloc(8) }));
}

export const CLIENT_OPS: Readonly<Record<string, ClientOp>> = {
  info: ({ client }) => void client.info(),
  regionInfo: ({ client, random }) => void client.regionInfo(random.below(10)).map?.fd.close(),
  mapRegion: map,
  irqInfo: ({ client, random }) => void client.irqInfo(random.below(6)),
  setIrqs: ({ client, random }) =>
    withFd(createEventfd('fuzz'), ({ fd }) => {
      const count = random.below(30);
      client.setIrqs(0x24, 2, 0, count, undefined, new Array<number>(count).fill(fd));
    }),
  read,
  write: (world) => write(world, false),
  post: (world) => write(world, true),
  writeRegions: ({ client, random }) => {
    const writes = smallWrites(random);
    assert.ok(client.writeRegions(writes) <= writes.length);
  },
  useIoFds: ({ client }) => void client.useIoFds(0),
  dmaMap: ({ client, random }) =>
    withFd(createMemfd('fuzz', PAGE), ({ fd }) => {
      const iova = BigInt(PAGE) * BigInt(random.edge());
      client.dmaMap(iova, PAGE, 3, random.chance(2) ? fd : null);
    }),
  dmaUnmap: ({ client, random }) =>
    void client.dmaUnmap(BigInt(PAGE) * BigInt(random.edge()), PAGE, random.pick([0, 2])),
  feature: ({ client }) => closeAll(client.feature(PROBE).fds),
  migrationFlags: ({ client }) => void client.run(migrationFlags()),
  migrationState: ({ client }) => void client.run(migrationState()),
  setMigrationState: ({ client, random }) => client.run(setMigrationState(random.below(8))),
  migrationBytes: ({ client }) => void client.run(migrationBytes()),
  migrationData: ({ client }) => {
    let pieces = 0;
    for (const _ of client.migrationData()) if (++pieces === MAX_PIECES) break;
  },
  writeMigrationData: ({ client, random }) => client.run(writeMigrationData(client, Buffer.alloc(random.below(9000)))),
  startDmaLogging: ({ client }) => void client.run(startDmaLogging(PAGE, [{ iova: 0n, length: 4096n }])),
  stopDmaLogging: ({ client }) => client.run(stopDmaLogging()),
  dirtyPages: ({ client, random }) => void client.run(dirtyPages(0, PAGE * (1 + random.below(2000)), PAGE)),
  reset: ({ client }) => client.reset(),
  hotResetInfo: ({ client }) => void client.hotResetInfo(),
  hotReset: ({ client }) => client.hotReset(),
  waitFor: ({ client }) => withFd(createEventfd('fuzz', 1), ({ fd }) => assert.ok(client.waitFor(fd, 1))),
};
