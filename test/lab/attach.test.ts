/**
 * QEMU must attach the devices that machine files describe: every device of a sample over the whole schema, without a
 * guest.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { QEMU_ENVIRONMENT, qemuProgram } from '../../lab/host/qemu.ts';
import { serveMachine } from '../../src/machine/served.ts';
import { barter } from '../cli/barter.ts';
import { mergedMachine } from '../machine/merged-machine.ts';

const SAMPLE = 30;
/** A bus has 32 slots, some of which the board uses. */
const MAX_DEVICES = 24;
const missing = missingStages();
/** As in lab.test.ts, CI prepares the lab if needed. */
const isCi = process.env.CI === 'true';
const skip =
  missing.length > 0 && !isCi ? `the lab is not prepared (${missing.join(', ')}): barter lab prepare` : false;

before(() => {
  if (skip !== false || missing.length === 0) return;
  const { status, stderr } = barter('lab', 'prepare');
  assert.equal(status, 0, stderr);
});

/** Starts QEMU with the devices and asks it to end after all are attached; returns its status and output. */
function attach(sockets: readonly string[]): Promise<{ status: number | null; stderr: string }> {
  const [command, ...args] = qemuProgram();
  const devices = sockets.flatMap((path) => [
    '-device',
    JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } }),
  ]);
  const memory = ['-object', 'memory-backend-memfd,id=ram,size=64M,share=on', '-M', 'q35,memory-backend=ram'];
  const quiet = ['-nodefaults', '-display', 'none', '-S', '-qmp', 'stdio'];
  const child = spawn(command, [...args, ...memory, ...quiet, ...devices], {
    env: { ...process.env, ...QEMU_ENVIRONMENT() },
  });
  let stderr = '';
  child.stderr.on('data', (part: Buffer) => {
    stderr += part;
  });
  child.stdin.on('error', () => {});
  // QEMU sends its greeting after every device is attached.
  child.stdout.once('data', () => child.stdin.write('{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'));
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, stderr })));
}

test('QEMU attaches the devices of machine files over the whole schema', { skip }, async (t) => {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-attach-'));
  const served = await serveMachine(mergedMachine(SAMPLE, seed), { socketDir });
  try {
    const sockets = served.devices.slice(0, MAX_DEVICES).map(({ socket }) => socket);
    assert.ok(sockets.length >= 5, `${sockets.length} devices`);
    const { status, stderr } = await attach(sockets);
    // QEMU cannot map a BAR of terabytes. It reaches that BAR by messages, and prints a warning.
    const complaints = stderr.split('\n').filter((line) => line !== '' && !line.includes('Performance may be slow'));
    assert.deepEqual([status, complaints], [0, []]);
  } finally {
    await served.stop();
    rmSync(socketDir, { recursive: true });
  }
});
