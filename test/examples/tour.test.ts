/** The tour of README.md: every command of it runs as written, here or in the test that the table names. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { BIN, endOf, ROOT } from '../cli/barter.ts';

/** Commands that take minutes, a database or another kernel; the test that runs them, and its text. */
const ELSEWHERE: readonly (readonly [command: RegExp, test: string, text: string])[] = [
  [/^barter conform client -- npx barter inspect /, 'conform/client.test.ts', "BIN, 'inspect', '{socket}']"],
  // A screen shows something once a driver draws on it.
  [/^barter screenshot gpu -o screen.png$/, 'cli/screenshot.test.ts', "'screenshot', path, '-o', file"],
  [/^barter explore --mutants$/, 'cli/explore.test.ts', "barter('explore', '--mutants'"],
  [/^barter lab exec -- uname -r$/, 'lab/exec.test.ts', "'-c', 'uname -r;"],
  [/^barter lab prepare$/, 'lab/lab.test.ts', "barter('lab', 'prepare')"],
  [/^barter lab run guest-export$/, 'lab/lab.test.ts', "labRun('guest-export')"],
  [/^barter lab run ioat-selftest$/, 'lab/lab.test.ts', "labRun('ioat-selftest')"],
  [/^barter lab run peer-to-peer$/, 'lab/lab.test.ts', "labRun('peer-to-peer')"],
  [/^barter lab run map-leak$/, 'lab/lab.test.ts', "labRun('map-leak')"],
  [/^barter lab run virtio-gpu$/, 'lab/lab.test.ts', "labRun('virtio-gpu')"],
  [/^barter lab diff --steps 400 --seed 1$/, 'lab/lab.test.ts', "'lab', 'diff', '--steps', '400', '--seed', '1'"],
  [
    /^barter lab diff --lender iommufd --steps 250 --seed 1 --kernel iommufd$/,
    'lab/kernels.test.ts',
    "'iommufd', 'diff', '--lender', 'iommufd', '--steps', '250', '--seed', '1'",
  ],
  [/^barter lab run guest-export --kernel debug$/, 'lab/kernels.test.ts', "'debug', 'run', 'guest-export'"],
  [
    /^barter lab run canary --kernel debug --leak-check$/,
    'lab/kernels.test.ts',
    "'lab', 'run', 'canary', '--kernel', 'debug', '--leak-check'",
  ],
  [/^barter explore revoke-vs-map:4 --queue redis:\/\/HOST$/, 'queue/queue.test.ts', "'--queue', "],
  [/^barter bench engine$/, 'package/package.test.ts', "'bench', 'engine'"],
  // README abbreviates QEMU's command. The lab starts QEMU with this device.
  [/^qemu-system-x86_64 .*"driver":"vfio-user-pci".* \.\.\.$/, 'lab/lab.test.ts', "labRun('guest-export')"],
];

const folder = mkdtempSync(join(tmpdir(), 'barter-tour-'));
const servers: ChildProcess[] = [];
// The servers without --socket-dir use this folder.
const env = { ...process.env, XDG_RUNTIME_DIR: join(folder, 'run') };
mkdirSync(join(folder, 'run'));
for (const name of ['examples', 'node_modules']) symlinkSync(join(ROOT, name), join(folder, name));
after(async () => {
  for (const server of servers) if (server.exitCode === null) await endOf(server, 'SIGTERM');
  rmSync(folder, { recursive: true });
});

/** The commands of the tour's blocks, without their comments. */
function tour(): string[] {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const part = readme.slice(readme.indexOf('## The tour'), readme.indexOf('### Use it as a library'));
  const blocks = [...part.matchAll(/^```\n([\s\S]*?)^```$/gm)].map((match) => match[1].replaceAll('\\\n', ' '));
  const lines = blocks.flatMap((block) => block.trimEnd().split('\n'));
  return lines.map((line) => line.replace(/ +# .*$/, '').replace(/^npx (?=barter )/, ''));
}

/** As written, but with sockets in a folder that every user may write to, and without the time that npx takes. */
const shellOf = (command: string) =>
  command.replaceAll('/run/', `${folder}/run/`).replace(/^barter /, `'${process.execPath}' '${BIN}' `);

const commands = tour();
const isElsewhere = (command: string) => ELSEWHERE.some(([pattern]) => pattern.test(command));
const own = commands.filter((command) => !isElsewhere(command));
const isServer = (command: string) => command.startsWith('barter serve ');

const LIMIT_MS = 120_000;
const missing = missingStages();
/** CI prepares the lab if needed. Elsewhere the user must do that, since it takes minutes and root. */
const labSkip =
  missing.length > 0 && process.env.CI !== 'true' && `NOT RUN: barter lab prepare (${missing.join(', ')})`;

/** A command that shows a bug ends with 1, as one that fails does. */
const findsBug = (command: string) => / --mutant |:hasty$|^barter replay /.test(command);

// The tour looks at a served device before it serves.
for (const command of [...own.filter(isServer), ...own.filter((one) => !isServer(one))]) {
  const skip = command.startsWith('barter lab ') && labSkip;
  test(command, { skip, timeout: LIMIT_MS }, async () => {
    if (isServer(command)) {
      const shell = `exec ${shellOf(command)}`;
      const server = spawn('sh', ['-c', shell], { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
      servers.push(server);
      for await (const line of createInterface({ input: server.stdout! })) {
        assert.match(line, /ready/);
        return;
      }
      assert.fail('the server ended before it was ready');
    }
    const { status, stdout, stderr } = spawnSync('sh', ['-c', shellOf(command)], {
      cwd: folder,
      env,
      encoding: 'utf8',
      maxBuffer: 64 << 20,
      // The test's own limit cannot end a call that blocks.
      timeout: LIMIT_MS,
    });
    assert.equal(status, findsBug(command) ? 1 : 0, `${stdout}${stderr}`);
  });
}

test('every other command is one of a test', () => {
  for (const [pattern, file, text] of ELSEWHERE) {
    assert.ok(
      commands.some((command) => pattern.test(command)),
      `the tour has no ${pattern}`,
    );
    assert.ok(readFileSync(join(ROOT, 'test', file), 'utf8').includes(text), `test/${file} has no ${text}`);
  }
});
