/** A device moves to another one while its memory changes, and the bytes are compared. */
import assert from 'node:assert/strict';
import {
  VFIO_DEVICE_STATE_PRE_COPY as PRE_COPY,
  VFIO_DEVICE_STATE_RESUMING as RESUMING,
  VFIO_DEVICE_STATE_RUNNING as RUNNING,
  VFIO_DEVICE_STATE_STOP as STOP,
  VFIO_DEVICE_STATE_STOP_COPY as STOP_COPY,
} from '../../../src/abi/vfio-feature.ts';
import { VfioUserClient } from '../../../src/vfio-user/client/client.ts';
import { setMigrationState, writeMigrationData } from '../../../src/vfio-user/client/migration.ts';
import { type Actor, repeat, type Stage } from './actor.ts';

const BAR_BYTES = 2 ** 20;

function bytesOf(client: VfioUserClient): Buffer {
  const bytes = Buffer.alloc(BAR_BYTES);
  client.readRegion(0, 0, bytes);
  return bytes;
}

function move(stage: Stage, from: VfioUserClient, to: VfioUserClient): void {
  const scribble = () =>
    from.writeRegion(0, stage.random.below(BAR_BYTES - 4096), Buffer.alloc(4096, stage.random.bits()));
  for (const client of [from, to]) client.writeRegion(7, 4, Buffer.from([6, 0]));
  scribble();
  to.run(setMigrationState(RESUMING));
  from.run(setMigrationState(PRE_COPY));
  const send = () => {
    for (const piece of from.migrationData()) to.run(writeMigrationData(to, piece));
  };
  send();
  scribble();
  send();
  if (stage.random.chance(4)) {
    stage.did('move: given up');
    return;
  }
  from.run(setMigrationState(STOP_COPY));
  send();
  from.run(setMigrationState(STOP));
  to.run(setMigrationState(RUNNING));
  assert.ok(bytesOf(to).equals(bytesOf(from)), 'a byte was lost on the move');
}

export const moving: Actor = (stage) =>
  repeat(stage, 'move', () => {
    const from = new VfioUserClient(stage.path('moving'));
    try {
      const to = new VfioUserClient(stage.path('moved'));
      try {
        move(stage, from, to);
      } finally {
        to.close();
      }
    } finally {
      from.close();
    }
  });
