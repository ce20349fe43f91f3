/** The client against servers that lie, stall and leave. Each fault has its own server, whose replies are scripted. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import {
  vfio_region_info,
  vfio_region_info_cap_sparse_mmap,
  vfio_region_sparse_mmap_area,
} from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_device_info,
  vfio_user_dma_region_access,
  vfio_user_mig_data,
  vfio_user_region_access,
  vfio_user_region_write_multi,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { leavesNoFdsAsync } from '../linux/open-fds.ts';
import { message } from './raw-client.ts';
import { type ScriptedReply, version, withScript } from './scripted-server.ts';

const FULL = { max_msg_fds: 16, max_data_xfer_size: 1 << 20, write_multiple: true };
const hex = (...parts: Uint8Array[]) => Buffer.concat(parts).toString('hex');
const info = (flags = 3) => ({
  payload: hex(vfio_user_device_info.encode({ argsz: 16, flags, num_regions: 9, num_irqs: 5 })),
});
const readReply = (count: number, bytes = Buffer.alloc(count, 7)) => ({
  payload: hex(vfio_user_region_access.encode({ count }), bytes),
});
const writeReply = (count: number) => ({ payload: hex(vfio_user_region_access.encode({ count })) });

interface Setting {
  capabilities?: object;
  timeoutMs?: number;
}

/** Runs `body` against a server that answers VERSION and then as scripted. Nothing is left behind. */
async function against(
  replies: readonly ScriptedReply[],
  body: (client: VfioUserClient) => void,
  setting: Setting = {},
): ReturnType<typeof withScript> {
  let seen: Awaited<ReturnType<typeof withScript>> = [];
  await leavesNoFdsAsync(async () => {
    seen = await answered(replies, body, setting);
  });
  return seen;
}

function answered(
  replies: readonly ScriptedReply[],
  body: (client: VfioUserClient) => void,
  { capabilities = FULL, timeoutMs = 10_000 }: Setting,
): ReturnType<typeof withScript> {
  return withScript([version(capabilities), ...replies], (path) => {
    const client = new VfioUserClient(path, { timeoutMs });
    try {
      body(client);
    } finally {
      client.close();
    }
  });
}

const refuses = (body: () => unknown, code: string, text = /./) =>
  assert.throws(body, (error) => {
    assert.ok(error instanceof Errno, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    return true;
  });

test('a migration read that is padded to the size that was asked for: its own size counts', async () => {
  const piece = (bytes: number, padded: number) => ({
    payload: hex(vfio_user_mig_data.encode({ argsz: 8 + bytes, size: bytes }), Buffer.alloc(padded, 9)),
  });
  await against([piece(100, 1 << 20), piece(3, 3), piece(0, 1 << 20)], (client) => {
    assert.deepEqual(
      [...client.migrationData()].map((each) => each.length),
      [100, 3],
    );
  });
  for (const lie of [piece(101, 100), piece((1 << 20) + 1, 0), { payload: '00' }, { payload: '' }]) {
    await against([lie], (client) => refuses(() => [...client.migrationData()], 'EPROTO', /MIG_DATA_READ|mig_data/));
  }
});

test('after a timeout the late reply is dropped, and the next call gets its own', async () => {
  await against(
    [{ ...info(0xbad), isLate: true }, { ...readReply(4), isLate: true, fds: 1 }, info(5)],
    (client) => {
      refuses(() => client.info(), 'ETIMEDOUT', /the server is silent/);
      refuses(() => client.readRegion(0, 0, Buffer.alloc(4)), 'ETIMEDOUT');
      assert.equal(client.info().flags, 5);
    },
    { timeoutMs: 60 },
  );
});

test('after a reply whose descriptors cannot be taken, the next call gets its own', async () => {
  await against([{ ...info(1), fds: 17 }, info(5)], (client) => {
    refuses(() => client.info(), 'EMSGSIZE', /17/);
    assert.equal(client.info().flags, 5);
  });
});

test('descriptors of a late reply that cannot be taken are not an error of the next call', async () => {
  await against(
    [{ ...info(1), isLate: true, fds: 17 }, info(5)],
    (client) => {
      refuses(() => client.info(), 'ETIMEDOUT');
      assert.equal(client.info().flags, 5);
    },
    { timeoutMs: 60 },
  );
});

test('a reply that nobody asked for ends the connection, with the same reason for each later call', async () => {
  for (const lie of [{ idOffset: 1 }, { command: 9 }]) {
    await against([{ ...info(), ...lie, fds: 2 }], (client) => {
      refuses(() => client.info(), 'EPROTO', /a reply to message/);
      refuses(() => client.info(), 'EPROTO', /a reply to message/);
      refuses(() => client.reset(), 'EPROTO', /a reply to message/);
    });
  }
});

test('max_data_xfer_size 0 is refused in words, and odd limits end', async () => {
  const none = { capabilities: { ...FULL, max_data_xfer_size: 0 } };
  await against(
    [info()],
    (client) => {
      for (const access of [
        () => client.readRegion(0, 0, Buffer.alloc(4)),
        () => client.writeRegion(0, 0, Buffer.alloc(4)),
        () => client.writeRegion(0, 0, Buffer.alloc(4), true),
        () => [...client.migrationData()],
      ]) {
        refuses(access, 'EPROTO', /max_data_xfer_size is 0/);
      }
      assert.equal(client.info().numRegions, 9);
    },
    none,
  );
  for (const [limit, parts] of [
    [1, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]],
    [3, [2, 2, 2, 2, 2]],
    [7, [4, 4, 2]],
    [13, [8, 2]],
  ] as const) {
    const seen = await against(parts.map(writeReply), (client) => client.writeRegion(0, 0, Buffer.alloc(10)), {
      capabilities: { ...FULL, max_data_xfer_size: limit },
    });
    const writes = seen.filter(({ command }) => command === VFIO_USER_REGION_WRITE);
    assert.deepEqual(
      writes.map(({ payload }) => payload.length / 2 - 16),
      parts,
      'whole words, as far as the limit allows',
    );
  }
  const small = await against(
    [{ payload: hex(vfio_user_mig_data.encode({ argsz: 8 })) }],
    (client) => assert.deepEqual([...client.migrationData()], []),
    { capabilities: { ...FULL, max_data_xfer_size: 8 } },
  );
  const ask = small.find(({ command }) => command === VFIO_USER_MIG_DATA_READ);
  assert.equal(Buffer.from(ask!.payload, 'hex').readUInt32LE(4), 8, 'the limit counts data, not the struct');
});

test('a write that was done in part is EIO, and a count that is too large EPROTO', async () => {
  await against([writeReply(2), writeReply(0), writeReply(5), { payload: '' }], (client) => {
    refuses(() => client.writeRegion(0, 16, Buffer.alloc(4)), 'EIO', /2 of 4 bytes were written at 0x10 of region 0/);
    refuses(() => client.writeRegion(0, 16, Buffer.alloc(4)), 'EIO', /0 of 4/);
    refuses(() => client.writeRegion(0, 16, Buffer.alloc(4)), 'EPROTO', /5 of 4/);
    refuses(() => client.writeRegion(0, 16, Buffer.alloc(4)), 'EPROTO', /shorter than vfio_user_region_access/);
  });
  const multi = (count: number | bigint) => ({ payload: hex(vfio_user_region_write_multi.encode({ wr_cnt: count })) });
  const writes = [0, 8].map((offset) => ({ region: 0, offset, bytes: Buffer.alloc(8) }));
  await against([multi(1), multi(3), multi(2n ** 64n - 1n)], (client) => {
    assert.equal(client.writeRegions(writes), 1);
    refuses(() => client.writeRegions(writes), 'EPROTO', /3 of 2/);
    refuses(() => client.writeRegions(writes), 'EPROTO', /of 2/);
  });
});

test('a lost connection and a silent server are errors, not writes that were refused', async () => {
  const one = [{ region: 0, offset: 0, bytes: Buffer.alloc(4) }];
  const single = { ...FULL, write_multiple: false };
  await against([{ payload: '', error: 5 }], (client) => assert.equal(client.writeRegions(one), 0, 'a refusal'), {
    capabilities: single,
  });
  await against(
    [{ ...writeReply(4), isLate: true }],
    (client) => refuses(() => client.writeRegions(one), 'ETIMEDOUT'),
    { capabilities: single, timeoutMs: 60 },
  );
  await against(
    [{ payload: '', cutAt: 0 }],
    (client) => {
      refuses(() => client.writeRegions(one), 'ECONNRESET', /closed the connection$/);
      refuses(() => client.writeRegions(one), 'ECONNRESET');
      refuses(() => client.writeRegion(0, 0, one[0].bytes, true), 'ECONNRESET');
    },
    { capabilities: single },
  );
  await against([{ ...readReply(64), cutAt: 40 }], (client) => {
    refuses(() => client.readRegion(0, 0, Buffer.alloc(64)), 'ECONNRESET', /in the middle of a message/);
  });
});

test('commands that want no reply get none, and the others get one', async () => {
  const dma = (command: number, flags: number) =>
    message(
      { id: 9, command, flags },
      Buffer.concat([
        vfio_user_dma_region_access.encode({ addr: 0x1000, count: 4 }),
        Buffer.alloc(command === VFIO_USER_DMA_WRITE ? 4 : 0, 3),
      ]),
    ).toString('hex');
  const before = [dma(VFIO_USER_DMA_WRITE, 0x10), dma(VFIO_USER_DMA_READ, 0x10), dma(99, 0x10), dma(99, 0)];
  const written: Buffer[] = [];
  const seen = await against([{ ...info(), before: [...before, dma(VFIO_USER_DMA_READ, 0)] }, info()], (client) => {
    client.memory = { read: (_, into) => void into.fill(6), write: (_, from) => void written.push(Buffer.from(from)) };
    client.info();
    client.info();
  });
  assert.deepEqual(written, [Buffer.alloc(4, 3)]);
  assert.deepEqual(
    seen.filter(({ isReply }) => isReply).map(({ command, payload }) => [command, payload.slice(32)]),
    [
      [99, ''],
      [VFIO_USER_DMA_READ, '06060606'],
    ],
  );
});

test('descriptors on replies that expect none are closed', async () => {
  const fds = { fds: 3 };
  const replies = [info(), readReply(4), writeReply(4), { payload: '' }, { payload: '', error: 22 }];
  await against(
    replies.map((reply) => ({ ...reply, ...fds })),
    (client) => {
      client.info();
      client.readRegion(0, 0, Buffer.alloc(4));
      client.writeRegion(0, 0, Buffer.alloc(4));
      client.reset();
      refuses(() => client.reset(), 'EINVAL');
    },
  );
});

/** A reply to GET_REGION_INFO. */
function region(fields: Parameters<typeof vfio_region_info.encode>[0], ...more: Uint8Array[]): ScriptedReply {
  const extra = more.reduce((sum, each) => sum + each.length, 0);
  return { payload: hex(vfio_region_info.encode({ argsz: 32 + extra, flags: 0xf, size: 8192, ...fields }), ...more) };
}

const capability = (fields: Parameters<typeof vfio_region_info_cap_sparse_mmap.encode>[0]) =>
  vfio_region_info_cap_sparse_mmap.encode({ header_id: 1, header_version: 1, ...fields });
const area = (offset: number, size: number) => vfio_region_sparse_mmap_area.encode({ offset, size });

for (const [name, lie, text] of [
  ['a chain that leaves the reply', region({ cap_offset: 100 }), /chain leads to 100/],
  ['a chain in a circle', region({ cap_offset: 32 }, capability({ header_id: 9, header_next: 32 })), /again/],
  ['a chain inside the struct', region({ cap_offset: 8 }), /inside struct/],
  ['a header that is cut', region({ cap_offset: 32 }, Buffer.alloc(4)), /chain leads to 32/],
  ['a capability that is cut', region({ cap_offset: 32 }, capability({}).subarray(0, 8)), /0 sparse areas in -8/],
  ['more areas than came', region({ cap_offset: 32 }, capability({ nr_areas: 2 }), area(0, 1)), /2 sparse areas/],
  ['four billion areas', region({ cap_offset: 32 }, capability({ nr_areas: 0xffffffff })), /4294967295 sparse/],
  ['an area outside', region({ cap_offset: 32 }, capability({ nr_areas: 1 }), area(4096, 8192)), /8192 bytes at 4096/],
  ['capabilities of 2 GiB', { payload: region({}).payload.replace(/^20000000/, '00000080') }, /wants 2147483648/],
  ['no struct', { payload: '2000000000' }, /shorter than vfio_region_info/],
] as const) {
  test(`region info with ${name}: one clear error, and no descriptor is left`, async () => {
    const scripted = { ...lie, fds: 2 };
    await against([scripted, scripted], (client) => refuses(() => client.regionInfo(0), 'EPROTO', text));
  });
}

test('a size of 2^64 - 1 is an error that names the field', async () => {
  const lie = { ...region({ size: 2n ** 64n - 1n, flags: 7 }), fds: 1 };
  await against([lie, lie], (client) => refuses(() => client.regionInfo(0), 'EOVERFLOW', /vfio_region_info.size/));
});

test('mapRegion beyond the end of its file is refused, and so is a file that is not memory', async () => {
  const short = createMemfd('short', 4096);
  const folder = mkdtempSync(join(tmpdir(), 'barter-hostile-'));
  try {
    const reply = { ...region({ argsz: 32, flags: 7 }), fdNumbers: [short.fd] };
    await against([reply, reply], (client) => {
      refuses(() => client.mapRegion(0, 0, 8192), 'EINVAL', /which has 4096; the server shares less than it says/);
      client.mapRegion(0, 0, 4096).close();
    });
    const socket = { ...region({ argsz: 32, flags: 7 }), fds: 1 };
    await against([socket], (client) => refuses(() => client.mapRegion(0, 0, 8192), 'EINVAL', /not a/));
    await against([region({ argsz: 32, flags: 3 })], (client) => {
      refuses(() => client.mapRegion(0, 0, 4096), 'EINVAL', /only messages reach it/);
    });
  } finally {
    short.close();
    rmSync(folder, { recursive: true });
  }
});

test('a file that is cut off under a mapping is EFAULT, not the end of this process', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-hostile-'));
  const file = new OwnedFd(openSync(join(folder, 'bar'), 'w+'), 'file');
  ftruncateSync(file.fd, 8192);
  writeSync(file.fd, 'shared', 4096);
  await against([{ ...region({ argsz: 32, flags: 7 }), fdNumbers: [file.fd] }], (client) => {
    const map = client.mapRegion(0, 0, 8192);
    const bytes = Buffer.alloc(6);
    map.read(4096, bytes);
    assert.equal(bytes.toString(), 'shared');
    refuses(() => map.view, 'EACCES', /may shrink/);
    ftruncateSync(file.fd, 4096);
    refuses(() => map.read(4096, bytes), 'EFAULT', /took them away/);
    refuses(() => map.write(4090, Buffer.alloc(12)), 'EFAULT');
    map.read(0, bytes);
    map.close();
  });
  file.close();
  rmSync(folder, { recursive: true });
});

test('the timeout is that of the call, though bytes come one by one', async () => {
  const began = performance.now();
  await against(
    [{ ...readReply(4), halfAt: 20, pauseMs: 300 }, ...new Array<ScriptedReply>(40).fill(info(5))],
    (client) => {
      refuses(() => client.readRegion(0, 0, Buffer.alloc(4)), 'ETIMEDOUT');
      assert.ok(performance.now() - began < 5000);
      for (let left = 40; left > 0; left--) {
        try {
          assert.equal(client.info().flags, 5, 'the rest of the late reply is dropped, too');
          return;
        } catch (error) {
          assert.equal((error as Errno).code, 'ETIMEDOUT');
        }
      }
      assert.fail('the client never got its reply');
    },
    { timeoutMs: 100 },
  );
});

test('a server that takes a part of a message and stops: the connection is lost, in words', async () => {
  // The server waits in its first reply, and does not read.
  const stuck = { ...info(), halfAt: 4, pauseMs: 400 };
  await against(
    [stuck],
    (client) => {
      const bytes = Buffer.alloc(1 << 20);
      assert.throws(() => client.info(), /ETIMEDOUT/);
      refuses(
        () => client.writeRegion(0, 0, bytes, true),
        'ETIMEDOUT',
        /took \d+ of the 1048608 bytes .* connect anew/,
      );
      refuses(() => client.info(), 'ETIMEDOUT', /connect anew/);
    },
    { timeoutMs: 50 },
  );
});

test('a message that is not one ends the connection', async () => {
  for (const [lie, text] of [
    [{ size: 8 }, /shorter than its header/],
    [{ size: 1 << 24 }, /16777216 bytes/],
  ] as const) {
    const code = lie.size === 8 ? 'EPROTO' : 'EMSGSIZE';
    await against([{ ...info(), ...lie }], (client) => {
      refuses(() => client.info(), code, text);
      refuses(() => client.info(), code, text);
    });
  }
});

test('a full or blocking eventfd of the server does not hold up a posted write', async () => {
  const event = createEventfd();
  writeSync(event.fd, Buffer.from(new BigUint64Array([2n ** 64n - 2n]).buffer));
  const places = Buffer.alloc(40);
  places.writeBigUInt64LE(4n, 8);
  const head = Buffer.from(new Uint32Array([56, 0, 0, 1]).buffer);
  const scripted = { payload: hex(head, places), fdNumbers: [event.fd] };
  await against([region({ argsz: 32, flags: 3 }), scripted, scripted], (client) => {
    client.useIoFds(0);
    client.writeRegion(0, 0, Buffer.alloc(4), true);
  });
  event.close();
});

test('signals do not prolong a call: the deadline is set once', async () => {
  const ignore = () => {};
  process.on('SIGUSR2', ignore);
  const storm = spawn('sh', ['-c', `while kill -USR2 ${process.pid} 2>/dev/null; do sleep 0.02; done`]);
  try {
    await answered(
      [{ ...info(), isLate: true }],
      (client) => {
        const began = performance.now();
        refuses(() => client.info(), 'ETIMEDOUT');
        // Restarted with each signal, the wait would end only with the server's own timeout of 5 s.
        assert.ok(performance.now() - began < 4000);
      },
      { timeoutMs: 300 },
    );
  } finally {
    storm.kill('SIGKILL');
    await once(storm, 'exit');
    process.off('SIGUSR2', ignore);
  }
});
