/** A lender's client that can begin a revoke and check later whether it is over. */
import assert from 'node:assert/strict';
import { POLLIN } from '../../src/abi/poll.ts';
import { vfio_region_info } from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { pollOne } from '../../src/linux/poll.ts';
import { type ExportRequest, exportArgument } from './lent.ts';
import { message, RawClient } from './raw-client.ts';

export class Lender {
  readonly raw: RawClient;

  constructor(path: string) {
    this.raw = RawClient.ready(path);
    this.memory(true);
  }

  export(request: ExportRequest = {}): OwnedFd {
    const reply = this.raw.call({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument(request));
    assert.equal(reply.error, 0);
    return reply.fds[0];
  }

  memory(on: boolean): void {
    this.startMemory(on);
    this.answer();
  }

  startMemory(on: boolean): void {
    const access = vfio_user_region_access.encode({ offset: 4, region: 7, count: 2 });
    this.raw.send(message({ command: VFIO_USER_REGION_WRITE }, Buffer.concat([access, Buffer.from([on ? 6 : 4, 0])])));
  }

  /** Whether the last request got its reply within `withinMs`. */
  hasAnswer(withinMs: number): boolean {
    return pollOne(this.raw.socket.fd, POLLIN, withinMs) !== 0;
  }

  answer(): void {
    assert.equal(this.raw.receive()?.error, 0);
  }

  read(offset: number): number {
    const { payload } = this.raw.call(
      { command: VFIO_USER_REGION_READ },
      vfio_user_region_access.encode({ offset, region: 0, count: 1 }),
    );
    return payload[vfio_user_region_access.sizeof];
  }

  write(offset: number, value: number): void {
    const access = vfio_user_region_access.encode({ offset, region: 0, count: 1 });
    this.raw.call({ command: VFIO_USER_REGION_WRITE }, Buffer.concat([access, Buffer.from([value])]));
  }

  /** Returns the BAR's descriptor, as for a client that maps the BAR itself. */
  takeBar(): OwnedFd {
    const { fds } = this.raw.call(
      { command: VFIO_USER_DEVICE_GET_REGION_INFO },
      vfio_region_info.encode({ argsz: 4096, index: 0 }),
    );
    return fds[0];
  }

  close(): void {
    this.raw.close();
  }
}
