import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { withServer } from '../vfio-user/served.ts';

const server = await withServer();

test('a device that is not a DMA engine is refused, and its memory is not written', () => {
  const client = new VfioUserClient(server.path('lender'));
  try {
    assert.throws(() => new IoatDriver(client), /ENODEV: .*lender\.sock is not an I\/OAT DMA engine/);
    const bytes = Buffer.alloc(256, 0xff);
    client.readRegion(0, 0, bytes);
    assert.deepEqual(bytes, Buffer.alloc(256));
  } finally {
    client.close();
  }
});
