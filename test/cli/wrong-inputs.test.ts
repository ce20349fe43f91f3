/**
 * Every argument and every option with a value, of every command in commander's tree, gets each kind of wrong value. The
 * command prints one line that names the value and says why, and it ends.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ROOT } from './barter.ts';
import { type CommandInput, type CommandNode, commandTree } from './command-tree.ts';
import { runAll } from './run-all.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-wrong-'));
after(() => rmSync(folder, { recursive: true }));
const inFolder = (name: string, content?: string | Uint8Array): string => {
  const path = join(folder, name);
  if (content !== undefined) writeFileSync(path, content);
  return path;
};
const FOLDER = inFolder('folder');
mkdirSync(FOLDER);
// check-tasks finds TypeScript from the file that it gets.
symlinkSync(join(ROOT, 'node_modules'), inFolder('node_modules'));
const FILE = inFolder('file.txt', 'neither YAML: [ nor { JSON\n');
const EMPTY = inFolder('empty', '');
const BINARY = inFolder('binary', Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 167 + 255) & 0xff)));
const LOCKED = inFolder('locked', 'secret: 1\n');
chmodSync(LOCKED, 0);
const CASES_OF_ROOT = process.getuid?.() === 0 ? [] : [LOCKED];
const LONG = inFolder('x'.repeat(300));
const BELOW = join(FILE, 'below');
const MISSING = inFolder('missing');
/** Its owner can open it, and the kernel refuses to read its first page. */
const UNREADABLE = '/proc/1/mem';
/** A socket file without a listener, as a killed server leaves. */
const DEAD = inFolder('dead.sock');
const listenAndDie = `require('node:net').createServer().listen('${DEAD}', () => process.kill(process.pid, 'SIGKILL'))`;
spawnSync(process.execPath, ['-e', listenAndDie]);

const NUMBERS = ['x', '', '-1', '1.5', 'NaN', 'Infinity', '9007199254740992', '1e400', '5 6'];
const NAMES = ['no-such', '', 'toString', '__proto__', '9007199254740992'];
const INPUT_FILES = [MISSING, FOLDER, BINARY, EMPTY, FILE, UNREADABLE, LONG, BELOW, ...CASES_OF_ROOT];
const MISSING_FILES = [`${MISSING}.ko`, FOLDER, LONG, BELOW, ...CASES_OF_ROOT];
/** A command that takes minutes looks at these before. */
const LOOKED_AT_FILES = [join(MISSING, 'out'), FOLDER, BELOW, LONG];
const OUTPUT_FILES = [...LOOKED_AT_FILES, '/proc/none'];
const SOCKETS = [MISSING, FOLDER, FILE, DEAD, LONG, BELOW];
const NO_SOCKETS = SOCKETS.filter((path) => path !== DEAD);
const FOLDERS = [MISSING, FILE, LONG, BELOW];
const REPORTS = ['xml', '', 'ktap=', ...LOOKED_AT_FILES.map((path) => `junit=${path}`)];
const HTTP = ['x', '', '-1', '65536', '1.5', 'host:', ':::', '127.0.0.1:x'];
const URLS = ['x', '', 'http://host', 'redis://127.0.0.1:1', 'redis://u:secret@127.0.0.1:1'];

const MACHINE = 'examples/two-peers.yaml';
const REPLAY = inFolder('bug.replay.json');
const FINDING = `lab/findings/${readdirSync(join(ROOT, 'lab/findings')).sort()[0]}`;
const BUG = ['revoke-vs-release', '--mutant', 'R8-release-under-the-lock'];
/** Right arguments of each command, for the options. An argument that is tried takes the place of its own. */
const RIGHT: Record<string, readonly string[]> = {
  serve: [MACHINE],
  import: [DEAD],
  peek: [DEAD, 'bar0', '0', '4'],
  poke: [DEAD, 'bar0', '0', '1'],
  'conform server --socket': [],
  'conform server': ['--', 'false', '{socket}'],
  'conform client': ['--', 'false', '{socket}'],
  screenshot: [DEAD],
  run: ['memory-bit'],
  explore: ['revoke-vs-map'],
  // A file is written for a bug alone.
  'explore --html': [...BUG, '--replay-file', REPLAY],
  'explore --replay-file': BUG,
  'queue drop': ['some-search'],
  'replay --to': [FILE],
  replay: [REPLAY],
  reproducer: [FINDING],
  'lab exec': ['--', 'true'],
  'lab run': ['guest-export'],
  'lab build-module': [FOLDER],
  'lab patch': [MISSING],
  complete: ['bash'],
};

/** The wrong values of an option, or of a command's argument in angle brackets; null where no text is wrong. */
const WRONG: Record<string, readonly string[] | null> = {
  '--accel': NAMES,
  '--algorithm': NAMES,
  '--append': null,
  '--borrower': NO_SOCKETS,
  '--bound': NUMBERS,
  '--console': LOOKED_AT_FILES,
  '--cpus': NUMBERS,
  'conform server --device': null,
  // test/lab/device-server.test.ts has files that cannot be loaded.
  'lab exec --device': MISSING_FILES,
  'replay --device': null,
  '--fd': NUMBERS,
  '--group': NAMES,
  'conform server --html': LOOKED_AT_FILES,
  'conform client --html': LOOKED_AT_FILES,
  '--html': OUTPUT_FILES,
  'lab diff --http': HTTP,
  'lab run --http': HTTP,
  '--http': [...HTTP, '192.0.2.1:8080'],
  '--ignore': null,
  '--importer-timeout': NUMBERS,
  '--kernel': [...NAMES, ...INPUT_FILES],
  '--lender': NAMES,
  '--log': NAMES,
  '--log-level': NAMES,
  '--lost-after': NUMBERS,
  '--lspci': INPUT_FILES,
  '--machine': INPUT_FILES,
  '--matrix': NAMES,
  '--max': NUMBERS,
  '--memory': [...NUMBERS, '4K', '1000T'],
  // The guest's kernel judges what is in the file.
  '--module': MISSING_FILES,
  '--modules': FOLDERS,
  '--mutant': NAMES,
  '--on': [...NAMES, 'linux:', 'linux:zzz', 'linux:0000:ff:1f.7'],
  'screenshot --output': LOOKED_AT_FILES,
  '--output': OUTPUT_FILES,
  '--pace': NUMBERS,
  '--pcap': OUTPUT_FILES,
  '--profile': NAMES,
  '--qemu-arg': null,
  '--queue': URLS,
  '--replay-file': OUTPUT_FILES,
  '--report': REPORTS,
  '--resume': INPUT_FILES,
  '--revokes': NUMBERS,
  '--rule': NAMES,
  // Written where a search is stopped.
  '--save': null,
  '--scanout': NUMBERS,
  '--seconds': NUMBERS,
  '--seed': NUMBERS,
  '--share': FOLDERS,
  '--size': NUMBERS,
  '--socket': SOCKETS,
  '--socket-dir': [FILE, LONG, BELOW, '/proc/none'],
  '--steps': NUMBERS,
  '--timeout': NUMBERS,
  '--to': NO_SOCKETS,
  '--workers': NUMBERS,
  'bench <name>': NAMES,
  'capture <device>': [...SOCKETS, '99:99', '0000:ff:1f.7'],
  'check-tasks <tsconfig>': INPUT_FILES.filter((path) => path !== UNREADABLE),
  'complete <shell>': ['no-such', '', 'toString', '__proto__'],
  'complete <words>': null,
  'conform server <command>': null,
  'conform client <command>': null,
  'devices <model>': NAMES,
  // Only the report of --mutants is written. Its file is looked at first.
  'explore <scenario>': [...NAMES, 'revoke-vs-map:0', 'revoke-vs-map:x', ...INPUT_FILES],
  // A lender that has died is a result of the first step.
  'import <lender>': NO_SOCKETS,
  'inspect <machine>': INPUT_FILES,
  'lab build-module <dir>': FOLDERS,
  'lab exec <command>': null,
  'lab patch <series>': INPUT_FILES,
  'lab peer-tests <file>': INPUT_FILES,
  'lab run <name>': NAMES,
  // Known once they are built.
  'lab selftests <program>': null,
  'lab shell <command>': null,
  '<length>': NUMBERS,
  '<offset>': NUMBERS,
  '<region>': NAMES,
  'queue drop <search>': null,
  'replay <file>': INPUT_FILES,
  'reproducer <scenario>': [...NAMES, ...INPUT_FILES],
  'run <scenario>': [...NAMES, ...INPUT_FILES],
  'screenshot <device>': [...SOCKETS, ...NAMES],
  'serve <machine>': INPUT_FILES,
  '<socket>': SOCKETS,
  '<value>': NUMBERS,
};

const keysOf = ({ path }: CommandNode, { option, value }: CommandInput) => {
  const own = option ?? `<${value}>`;
  return [`${path.join(' ')} ${own}`, own];
};

const tree = await commandTree();

test('the table has every option and argument, and no others', () => {
  const known = new Set(Object.keys(WRONG));
  const used = new Set<string>();
  for (const node of tree)
    for (const input of node.inputs) {
      const key = keysOf(node, input).find((each) => known.has(each));
      assert.ok(key !== undefined, `what is wrong for ${keysOf(node, input)[0]}?`);
      used.add(key);
    }
  assert.deepEqual(
    [...known].filter((key) => !used.has(key)),
    [],
  );
});

interface Case {
  args: string[];
  wrong: string;
}

function casesOf(node: CommandNode): Case[] {
  return node.inputs.flatMap((input) => {
    const right =
      keysOf(node, input)
        .map((key) => RIGHT[key])
        .find((each) => each !== undefined) ??
      RIGHT[node.path.join(' ')] ??
      [];
    const wrong = keysOf(node, input)
      .map((key) => WRONG[key])
      .find((each) => each !== undefined);
    return (wrong ?? []).map((value) => {
      if (input.option !== null) return { args: [...node.path, `${input.option}=${value}`, ...right], wrong: value };
      const words = [...right.slice(0, input.index), value, ...right.slice(input.index + 1)];
      // A word that begins with a dash is an option unless -- is in front.
      return { args: [...node.path, ...(value.startsWith('-') ? ['--'] : []), ...words], wrong: value };
    });
  });
}

const cases = tree.flatMap(casesOf);
/** The first command makes what `replay` needs. */
const [, ...results] = runAll(
  [['explore', ...BUG, '--replay-file', REPLAY], ...cases.map(({ args }) => args)],
  300_000,
);
const shown = (text: string) => text.replaceAll(folder, 'DIR').replaceAll('x'.repeat(300), 'xxx');

for (const node of tree) {
  test(`barter ${node.path.join(' ')} with wrong values`, () => {
    const bad: string[] = [];
    for (const [i, { args, wrong }] of cases.entries()) {
      if (!node.path.every((word, at) => args[at] === word)) continue;
      const { status, stderr, stdout } = results[i];
      const isRight = status !== 0 && /^barter: [^\n]+\n$/.test(stderr) && !/unexpected|node:|\.ts:/.test(stderr);
      // A password is not shown.
      const said = wrong.replace(/^junit=/, '').replace('secret', '***');
      if (!isRight || !stderr.includes(said) || stderr.includes('secret@'))
        bad.push(shown(`${args.join(' ')} ends with ${status} and says: ${stderr}${stdout.slice(0, 200)}`));
    }
    assert.deepEqual(bad, []);
  });
}
