import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { processName } from '../../src/web/process-name.ts';
import { endOf, startBarter } from '../cli/barter.ts';

test('a server is called by its command, another process by its program, and one that is gone by nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-names-'));
  const { child } = await startBarter('serve', 'examples/two-peers.yaml', '--socket-dir', folder);
  assert.equal(processName(child.pid!), 'barter serve');
  await endOf(child, 'SIGTERM');
  assert.equal(processName(child.pid!), '');
  const sleeper = spawn('sleep', ['100']);
  await once(sleeper, 'spawn');
  while (processName(sleeper.pid!) !== 'sleep') await new Promise(setImmediate);
  await endOf(sleeper, 'SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
