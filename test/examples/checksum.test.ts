import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { POLLIN } from '../../src/abi/poll.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { pollOne } from '../../src/linux/poll.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const MEMORY_BYTES = 1 << 20;
const folder = mkdtempSync(join(tmpdir(), 'barter-own-'));
let server: ChildProcess;

before(async () => {
  const args = ['--import', 'tsx', file('examples/checksum.ts'), folder];
  server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(server.stdout!.setEncoding('utf8'), 'data');
  assert.equal(line, `ready: ${join(folder, 'checksum.sock')}\n`);
});

after(async () => {
  const gone = once(server, 'exit');
  server.kill('SIGTERM');
  assert.deepEqual(await gone, [0, null]);
  assert.equal(existsSync(join(folder, 'checksum.sock')), false);
  rmSync(folder, { recursive: true });
});

test('the guide shows the example as it is, in little more than sixty lines', () => {
  const example = readFileSync(file('examples/checksum.ts'), 'utf8');
  assert.ok(example.trimEnd().split('\n').length <= 66);
  assert.ok(readFileSync(file('docs/writing-a-device.md'), 'utf8').includes(`\`\`\`ts\n${example}\`\`\``));
});

test('the example reads memory of its client, and interrupts', () => {
  const client = new VfioUserClient(join(folder, 'checksum.sock'));
  const memfd = createMemfd('test', MEMORY_BYTES);
  const memory = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: MEMORY_BYTES, writable: true, what: 'test' });
  const interrupt = createEventfd('test');
  try {
    for (let i = 0; i < MEMORY_BYTES; i++) memory.bytes[i] = (i * 7) ^ (i >> 8);
    client.dmaMap(0x100000, MEMORY_BYTES, 1, memfd.fd);
    client.writeRegion(7, 4, Buffer.from([6, 0]));
    client.setIrqs(0x24, 2, 0, 1, undefined, [interrupt.fd]);
    const request = Buffer.alloc(12);
    request.writeBigUInt64LE(0x100010n);
    client.writeRegion(0, 0, request.subarray(0, 8));
    for (const [length, status] of [
      [200_000, 2],
      [MEMORY_BYTES, 3],
    ]) {
      request.writeUInt32LE(length, 8);
      client.writeRegion(0, 8, request.subarray(8));
      assert.notEqual(pollOne(interrupt.fd, POLLIN, 5000), 0, 'it interrupts');
      readEventfd(interrupt.fd);
      const answer = Buffer.alloc(8);
      client.readRegion(0, 0x0c, answer);
      assert.equal(answer.readUInt32LE(0), status);
      if (status === 2) assert.equal(answer.readUInt32LE(4), crc32(memory.bytes.subarray(16, 16 + length)));
    }
    client.reset();
    const answer = Buffer.alloc(4);
    client.writeRegion(7, 4, Buffer.from([6, 0]));
    client.readRegion(0, 0x0c, answer);
    assert.equal(answer.readUInt32LE(), 0, 'a reset clears its registers');
  } finally {
    client.close();
    memory.close();
    memfd.close();
    interrupt.close();
  }
});
