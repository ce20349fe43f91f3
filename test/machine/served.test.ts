/** Machines over the whole schema on real sockets: a client reads everything that each device reports. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildMachine } from '../../src/machine/build.ts';
import { serveMachine } from '../../src/machine/served.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { mergedMachine } from './merged-machine.ts';

const SAMPLE = 40;

test(`the devices of ${SAMPLE} machine files serve, and tell a client what they are`, async (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  const description = mergedMachine(SAMPLE, seed);
  const { functions } = buildMachine(description);
  assert.ok(functions.size >= 10, `${functions.size} devices`);
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-served-'));
  const served = await serveMachine(description, { socketDir });
  try {
    for (const { name, socket } of served.devices) {
      const client = new VfioUserClient(socket);
      try {
        examine(client, functions.get(name)!);
      } finally {
        client.close();
      }
    }
  } finally {
    await served.stop();
    rmSync(socketDir, { recursive: true });
  }
});

function examine(client: VfioUserClient, fn: Fn): void {
  const { numRegions, numIrqs } = client.info();
  for (let index = 0; index < numRegions; index++) {
    const info = client.regionInfo(index);
    info.map?.fd.close();
    if (index < 6) assert.equal(info.sizeBytes, fn.bars[index]?.sizeBytes ?? 0);
  }
  for (let index = 0; index < numIrqs; index++) client.irqInfo(index);
  const config = Buffer.alloc(fn.config.sizeBytes);
  client.readRegion(7, 0, config);
  assert.deepEqual([config.readUInt16LE(0), config.readUInt16LE(2)], [fn.vendorId, fn.deviceId]);
}

type Fn = ReturnType<typeof buildMachine>['functions'] extends ReadonlyMap<string, infer F> ? F : never;
