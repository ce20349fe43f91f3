/** The user's devices of barter lab exec: files from any package, which share this very barter. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';

const ROOT = new URL('../..', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'barter-device-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const STATUS = 0x0c;
const RESULT = 0x10;

/** Serves the file by the program of the lab. */
function serve(file: string) {
  const program = join(ROOT, 'lab/host/device-server.ts');
  const args = ['--conditions=barter-source', '--import', 'tsx', program, folder, `dut=${file}`];
  return spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
}

test('a device in a package of CommonJS, as npm init makes one, does its work', { timeout: 120_000 }, async () => {
  writeFileSync(join(folder, 'package.json'), '{"type": "commonjs"}');
  const file = join(folder, 'device.ts');
  copyFileSync(join(ROOT, 'examples/checksum.ts'), file);
  const server = serve(file);
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  const client = new VfioUserClient(JSON.parse(line).devices[0].socket);
  const memory = createMemfd('test', 4096);
  client.dmaMap(0, 4096, 3, memory.fd);
  client.writeRegion(7, 4, Buffer.from([6, 0]));
  client.writeRegion(0, 0, Buffer.alloc(8));
  client.writeRegion(0, 8, Buffer.from([100, 0, 0, 0]));
  const register = (offset: number): number => {
    const bytes = Buffer.alloc(4);
    client.readRegion(0, offset, bytes);
    return bytes.readUInt32LE();
  };
  while (register(STATUS) < 2) await sleep(5);
  assert.equal(register(STATUS), 2, 'done');
  assert.equal(register(RESULT), crc32(Buffer.alloc(100)));
  client.close();
  memory.close();
  server.kill();
  await once(server, 'exit');
});

test('a file without a default export is refused with the next step', async () => {
  const file = join(folder, 'nothing.ts');
  writeFileSync(file, 'export const x = 1;\n');
  const server = serve(file);
  const [[line], [status]] = await Promise.all([
    once(createInterface({ input: server.stderr }), 'line'),
    once(server, 'exit'),
  ]);
  assert.match(line, /nothing\.ts has no default export: .*writing-a-device\.md/);
  assert.equal(status, 2);
});

/** What the file holds, and the sentence that names it. */
const UNFIT: readonly [name: string, text: string | Uint8Array, said: RegExp][] = [
  ['binary.mjs', Buffer.from([0xff, 0, 0x1b, 0x5b]), /binary\.mjs cannot be loaded: .*BARTER_DEBUG=1 shows where/],
  ['throws.mjs', 'throw new Error("mine")', /throws\.mjs cannot be loaded: mine; BARTER_DEBUG=1 shows where/],
  ['empty.mjs', '', /empty\.mjs has no default export/],
  ['other.mjs', 'export default class {}', /dut=.*other\.mjs cannot be served: /],
];

for (const [name, text, said] of UNFIT) {
  test(`${name} gets one line, without a stack`, { timeout: 60_000 }, async () => {
    writeFileSync(join(folder, name), text);
    const server = serve(join(folder, name));
    const texts = server.stderr.setEncoding('utf8').toArray();
    const [status] = await once(server, 'exit');
    assert.match((await texts).join(''), new RegExp(`^barter: [^\\n]*${said.source}[^\\n]*\\n$`));
    assert.equal(status, 2);
  });
}
