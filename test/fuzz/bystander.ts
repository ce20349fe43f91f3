/** Another user's client, which must never notice the fuzzing. */
import assert from 'node:assert/strict';
import { VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE } from '../../src/abi/vfio-user.ts';
import type { InProcessServer } from '../vfio-user/in-process.ts';
import { message, type RawClient, type RawReply } from '../vfio-user/raw-client.ts';
import { FuzzFinding } from './fuzzer.ts';
import { access, MEMORY_ON } from './messages.ts';
import { ROUNDS } from './steps.ts';

const OFFSET = 64;

export class Bystander {
  private readonly client: RawClient;
  private readonly served: InProcessServer;
  private value = 0;

  constructor(served: InProcessServer) {
    this.served = served;
    this.client = served.ready('bystander');
    this.client.send(message({ command: VFIO_USER_REGION_WRITE }, MEMORY_ON));
    this.turn();
  }

  check(): void {
    this.value = (this.value + 1) & 0xff;
    const data = Buffer.alloc(4, this.value);
    this.client.send(message({ id: 1, command: VFIO_USER_REGION_WRITE }, Buffer.concat([access(OFFSET, 0, 4), data])));
    this.client.send(message({ id: 2, command: VFIO_USER_REGION_READ }, access(OFFSET, 0, 4)));
    const write = this.turn();
    const read = this.turn();
    assert.equal(write.error, 0);
    assert.deepEqual(read.payload.subarray(16), data, 'a bystander read something else');
  }

  close(): void {
    this.client.close();
  }

  private turn(): RawReply {
    for (let i = 0; i < ROUNDS; i++) {
      const reply = this.client.tryReceive();
      if (reply !== undefined && reply !== null) return reply;
      if (reply === null) throw new FuzzFinding('the bystander was dropped');
      this.served.server.loop.turn(0);
    }
    throw new FuzzFinding(`the bystander has no answer after ${ROUNDS} rounds`);
  }
}
