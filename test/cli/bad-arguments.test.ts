/** Runs every command with wrong arguments: it prints one line that says what, where and the next step. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { SUMMARIES } from '../../src/cli/summaries.ts';
import { runAll } from './run-all.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-bad-'));
after(() => rmSync(folder, { recursive: true }));
const inFolder = (name: string) => join(folder, name);
mkdirSync(inFolder('folder'));
writeFileSync(inFolder('empty'), '');
writeFileSync(inFolder('half.json'), '{');
writeFileSync(inFolder('other.json'), '{"barter":"something else"}');
writeFileSync(inFolder('half.yaml'), 'a: [');

const MACHINE = 'examples/two-peers.yaml';
const EXPLORE = ['explore', 'revoke-vs-map'];

/** The arguments, the expected text, and the exit status if it is not 2. */
const CASES: readonly (readonly [args: readonly string[], said: RegExp, status?: number])[] = [
  [['frobnicate'], /unknown command 'frobnicate'; see barter --help$/],
  [['--frob'], /unknown option '--frob'; see barter --help$/],
  [['demo', 'extra'], /too many arguments.*; see barter demo --help$/],
  [['demo', '--frob'], /unknown option '--frob'; see barter demo --help$/],
  [['serve'], /missing required argument 'machine'; see barter serve --help$/],
  [['serve', inFolder('none.yaml')], /none\.yaml: there is no such file$/],
  [['serve', inFolder('folder')], /folder: this is a folder; name a file in it$/],
  [['serve', inFolder('empty')], /empty:1: /],
  [
    ['serve', MACHINE, '--profile', 'linux-2.6'],
    /there is no profile linux-2\.6; there are: default, linux-7\.3, next$/,
  ],
  [
    ['serve', MACHINE, '--profile', 'next:revoke=13'],
    /--profile next:revoke=13: feature 13: give a number from 14 to 65535$/,
  ],
  [['serve', MACHINE, '--profile', 'toString'], /there is no profile toString; there are: /],
  [['serve', MACHINE, '--http', 'x'], /--http x: \[HOST:\]PORT is needed, such as 8080 or 127\.0\.0\.1:8080$/],
  [['serve', MACHINE, '--http', '99999'], /--http 99999: /],
  [['serve', MACHINE, '--control'], /--control is for the page: add --http \[HOST:\]PORT$/],
  [['serve', MACHINE, '--importer-timeout', 'soon'], /--importer-timeout soon: 1 to 3600000 milliseconds$/],
  [['serve', MACHINE, '--socket-dir', inFolder('empty')], /empty cannot be made: .*; choose another with --socket-dir/],
  [['serve', MACHINE, '--socket-dir', inFolder('empty/below')], /below cannot be made: .*--socket-dir DIR$/],
  [['serve', MACHINE, '--socket-dir', '/proc/none/sockets'], /sockets cannot be made: .*--socket-dir DIR$/],
  [['serve', MACHINE, '--socket-dir', inFolder('x'.repeat(300))], /cannot be made: the name is too long/],
  [['import'], /import wants the socket of a lender, or --fd and the number of a descriptor$/],
  [['import', 'x.sock', '--fd', '3'], /the socket of a lender, or --fd/],
  [
    ['import', 'x.sock', '--revokes', 'many'],
    /'--revokes <n>' argument 'many' is invalid. It takes a whole number from 1/,
  ],
  [['import', '--fd', 'x'], /'--fd <n>' argument 'x' is invalid. It takes a whole number from 0 on/],
  [['import', '--fd', '999'], /ENOTSOCK: descriptor 999/, 1],
  [['inspect'], /missing required argument 'machine'/],
  [['inspect', inFolder('half.yaml')], /half\.yaml:1: /],
  [['capture'], /capture wants a PCI address \(lspci -D lists them\)/],
  [['capture', '99:99'], /99:99 is no.* PCI address/],
  [['capture', '0000:ff:1f.7'], /no PCI device 0000:ff:1f\.7/],
  [['capture', inFolder('none.sock')], /none\.sock: there is no such socket; start the server that makes it$/],
  [['conform', 'server'], /wants --socket PATH, or -- and the command that starts the server$/],
  [['conform', 'server', '--', 'true'], /the command names no socket: write \{socket\} where its path goes$/],
  [['conform', 'server', '--group', 'none', '--', 'true'], /there is no group none; there are: header, version/],
  [['conform', 'server', '--rule', 'irq.none', '--', 'true'], /there is no rule irq\.none; the group has: irq\./],
  [['conform', 'server', '--socket', inFolder('none.sock')], /none\.sock: there is no such socket; start the server/],
  [
    ['conform', 'server', '--', 'false', '{socket}'],
    /ECONNREFUSED: the server ended with status 1 before it listened/,
    1,
  ],
  [['conform', 'server', '--', inFolder('none'), '{socket}'], /the server ended with .*ENOENT before it listened/, 1],
  [['conform', 'client'], /missing required argument 'command'; see barter conform --help$/],
  [['conform', 'client', '--', 'true'], /the command names no socket: write \{socket\} where its path goes$/],
  [['screenshot'], /missing required argument 'device'; see barter screenshot --help$/],
  [
    ['screenshot', 'no-such-device'],
    /no server has a screen no-such-device .*; name its socket, as barter serve prints it$/,
  ],
  [['screenshot', inFolder('none.sock')], /none.sock: there is no such socket; barter serve prints its sockets$/],
  [['peek'], /missing required argument 'socket'; see barter peek --help$/],
  [['peek', inFolder('empty'), 'bar0', '0'], /empty: this is not a socket; name the one that a server listens on$/],
  [['peek', inFolder('none.sock'), 'bar7', '0'], /there is no region bar7; there are: bar0, .*vga, and indexes$/],
  [['poke', inFolder('none.sock'), 'bar0', '0'], /missing required argument 'value'; see barter poke --help$/],
  [['poke', inFolder('none.sock'), 'bar0', '-1', '0'], /offset -1: it takes a number from 0 to/],
  [['run'], /missing required argument 'scenario'/],
  [['run', 'no-such-scenario'], /no scenario no-such-scenario.*barter scenarios/],
  [['run', inFolder('folder')], /folder: this is a folder/],
  [['run', 'memory-bit', '--profile', 'constructor'], /there is no profile constructor; there are: /],
  [['run', 'memory-bit', '--on', 'paper'], /--on paper: wants engine, vfio-user or linux:BDF$/],
  [['run', 'memory-bit', '--on', 'linux:zzz'], /--on linux:zzz: .*zzz is no.* PCI address/],
  [['explore'], /explore wants a scenario; barter scenarios lists them$/],
  [['explore', 'nope'], /no scenario nope; barter scenarios lists them$/],
  [['explore', 'revoke-vs-map:99'], /revoke-vs-map:99: the size must be 1 to \d+$/],
  [[...EXPLORE, '--bound', 'abc'], /'--bound <n>' argument 'abc' is invalid. It takes a whole number from 0 on/],
  [[...EXPLORE, '--max', '-1'], /'--max <n>' argument '-1' is invalid/],
  [[...EXPLORE, '--seed', ''], /'--seed <n>' argument '' is invalid/],
  [[...EXPLORE, '--workers', '0'], /'--workers <n>' argument '0' is invalid. It takes a whole number from 1 to 64/],
  [[...EXPLORE, '--algorithm', 'best'], /there is no algorithm best; there are: optimal, /],
  [[...EXPLORE, '--mutant', 'zz'], /there is no mutant zz; barter explore --mutants tries and lists them all$/],
  [['explore', '--resume', inFolder('none')], /none cannot be read: there is no such file or folder \(ENOENT\)$/],
  [['explore', '--resume', inFolder('folder')], /folder cannot be read: it is a folder \(EISDIR\)$/],
  [['explore', '--resume', inFolder('half.json')], /half\.json is not JSON; barter explore writes files/],
  [['explore', '--resume', inFolder('other.json')], /other\.json is not a resume file; barter explore leaves one/],
  [['explore', './none.ts'], /none\.ts: there is no such file$/],
  [['replay'], /missing required argument 'file'/],
  [['replay', inFolder('none')], /none cannot be read: /],
  [['replay', inFolder('other.json')], /other\.json is not a replay file; barter explore writes one for each bug$/],
  [['scenarios', 'extra'], /too many arguments/],
  [['lab', 'nope'], /unknown command 'nope'; see barter lab --help$/],
  [['lab', 'run'], /missing required argument 'name'/],
  [['lab', 'run', 'nope'], /there is no lab run nope; there are: guest-export, /],
  [['lab', 'run', 'toString'], /there is no lab run toString; there are: /],
  [['lab', 'run', 'peer-load', '--seconds', 'abc'], /'--seconds <n>' argument 'abc' is invalid/],
  [['lab', 'diff', '--steps', '1.5'], /'--steps <n>' argument '1\.5' is invalid/],
  [['lab', 'peer-tests', '--report', 'xml'], /--report xml is not a report: write ktap, junit, /],
  [['devices', 'no-such-model'], /no-such-model/],
  [['check-tasks', inFolder('none')], /none/],
  [['reproducer', 'no-such-scenario'], /no-such-scenario/],
  [['complete'], /missing required argument 'shell'; see barter complete --help$/],
  [['complete', 'tcsh'], /Allowed choices are bash, zsh, fish, powershell; see barter complete --help$/],
  [['worker'], /required option '--queue <url>' not specified; see barter worker --help$/],
  [['worker', '--queue', 'http://host'], /--queue http:\/\/host: not an address of a Redis; it has the form redis:/],
  [['worker', '--queue', 'redis://127.0.0.1:1'], /127\.0\.0\.1:1: nothing listens there; start redis-server, or name/],
  [['queue', 'status', '--queue', 'x'], /--queue x: not an address of a Redis; it has the form redis:/],
  [[...EXPLORE, '--queue', 'x'], /--queue x: not an address of a Redis; it has the form redis:/],
  [['bench', 'nope'], /there is no benchmark nope; there are: \w+, /],
  [['bench', 'toString'], /there is no benchmark toString; there are: /],
];

const results = runAll(
  CASES.map(([args]) => args),
  120_000,
);

for (const [i, [args, said, status = 2]] of CASES.entries()) {
  test(`barter ${args.join(' ').replaceAll(folder, 'DIR').slice(0, 90)}`, () => {
    const result = results[i];
    assert.match(result.stderr.trimEnd(), said);
    assert.match(result.stderr, /^barter: [^\n]+\n$/, 'one line, and no stack');
    assert.equal(result.stdout, '');
    assert.equal(result.status, status);
  });
}

test('every command is among these', () => {
  const tried = new Set(CASES.map(([args]) => args[0]));
  const all = Object.keys(SUMMARIES);
  assert.deepEqual(
    all.filter((name) => !tried.has(name)),
    [],
  );
});
