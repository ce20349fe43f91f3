/** The guides quote their examples exactly, and the examples' output too. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { foreignPath } from '../../lab/peers/peers.ts';

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const read = (name: string) => readFileSync(path(name), 'utf8');

test('docs/lend-and-revoke.md', () => {
  const page = read('docs/lend-and-revoke.md');
  const example = read('examples/lend.ts');
  assert.ok(page.includes(`\`\`\`ts\n${example}\`\`\``), 'the example as it is');
  const [, printed] = /\$ node --import tsx examples\/lend\.ts .*\n([\s\S]*?)```/.exec(page)!;
  const args = [
    '--conditions=barter-source',
    '--import',
    'tsx',
    path('examples/lend.ts'),
    path('examples/two-peers.yaml'),
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.equal(stdout, printed);
  assert.equal(status, 0);
});

/** libvfio-user's gpio sample: of a built checkout that LIBVFIO_USER names, or of the lab; null without one. */
function gpioSample(): string | null {
  const { LIBVFIO_USER } = process.env;
  if (LIBVFIO_USER !== undefined) return join(LIBVFIO_USER, 'build/samples/gpio-pci-idio-16');
  const built = foreignPath({ name: 'libvfio-user-gpio' });
  return existsSync(built) ? built : null;
}

test('docs/foreign-servers.md', async (t) => {
  const page = read('docs/foreign-servers.md');
  assert.ok(page.includes(`\`\`\`ts\n${read('examples/foreign-server.ts')}\`\`\``), 'the example as it is');
  const [, printed] = /\$ node --import tsx examples\/foreign-server\.ts .*\n([\s\S]*?)```/.exec(page)!;
  const folder = mkdtempSync(join(tmpdir(), 'barter-guide-'));
  const sample = gpioSample();
  t.diagnostic(
    sample === null ? "Barter's own server: barter lab peers builds libvfio-user's" : `the sample ${sample}`,
  );
  const socket = join(folder, 'lender.sock');
  const own = [
    process.execPath,
    path('bin/barter.cjs'),
    'serve',
    path('examples/two-peers.yaml'),
    '--socket-dir',
    folder,
  ];
  const command = sample === null ? own : [sample, socket];
  const server = spawn(command[0], command.slice(1), { stdio: 'ignore' });
  try {
    while (!existsSync(socket) && server.exitCode === null) await sleep(10);
    const args = ['--conditions=barter-source', '--import', 'tsx', path('examples/foreign-server.ts'), socket];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    const ours = printed.replace('494f:dc8', '1b36:b01').replace('BAR 2 reads 0 0 0 1 1 1', 'BAR 0 reads 0 0 0 0 0 0');
    assert.equal(stderr, '');
    assert.equal(stdout, sample === null ? ours : printed);
    assert.equal(status, 0);
  } finally {
    const exited = once(server, 'exit');
    server.kill('SIGKILL');
    await exited;
    rmSync(folder, { recursive: true });
  }
});
