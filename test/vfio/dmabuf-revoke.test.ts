/** The refusals of VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE. What it does is in test/scenario/next.test.ts. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { packageFile } from '../../src/linux/package-file.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { loadMachine } from '../../src/machine/load.ts';
import { serveMachine } from '../../src/machine/served.ts';
import { EngineBackend } from '../../src/scenario/engine/backend.ts';
import { featureArgument } from '../../src/scenario/feature-argument.ts';
import { given } from '../../src/scenario/run.ts';
import type { Step } from '../../src/scenario/step.ts';
import { runner } from '../../src/task/runner.ts';
import { PROFILES } from '../../src/vfio/profile.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';

const MACHINE = loadMachine(packageFile('examples/two-peers.yaml'));
const EXPORT: Step = { op: 'export', device: 'lender', region: 0, ranges: [[0, 4096]], as: 'buffer' };
const revoke = (device: string, fd = 'buffer') => ({ op: 'revoke-buffer', device, fd }) as const;

test('in process: a bad descriptor, one that is not a dma-buf, one of another device, a closed device', () => {
  const backend = new EngineBackend(buildMachine(MACHINE), PROFILES.next);
  const perform = (step: Step) => given(runner.run(backend.perform(step)));
  for (const device of ['lender', 'borrower']) perform({ op: 'open', device });
  perform(EXPORT);
  perform({ op: 'export-sync-file', fd: 'buffer', flags: 2, as: 'sync' });
  assert.equal(perform(revoke('lender', 'nothing')), 'EBADF');
  assert.equal(perform(revoke('lender', 'sync')), 'EINVAL');
  assert.equal(perform(revoke('borrower')), 'ENODEV');
  perform({ op: 'dup-fd', fd: 'buffer', as: 'copy' });
  perform({ op: 'close', device: 'lender' });
  perform({ op: 'open', device: 'lender' });
  assert.equal(perform(revoke('lender', 'copy')), 'ENODEV', 'a buffer of an earlier open is nobody’s');
  const references = perform({ op: 'fdinfo', fd: 'buffer' });
  assert.notEqual(references, undefined, 'no refusal drops a reference that it did not take');
  runner.run(backend.dispose());
});

test('over vfio-user: a message without a descriptor, another kind of descriptor, a buffer of another device', async () => {
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-revoke-'));
  const served = await serveMachine(MACHINE, { socketDir, profile: 'next' });
  try {
    const [lender, borrower] = ['lender', 'borrower'].map(
      (name) => new VfioUserClient(join(socketDir, `${name}.sock`)),
    );
    const argument = featureArgument(revoke('lender'), 0);
    const code = (client: VfioUserClient, fds: number[]): string | null => {
      try {
        client.feature(argument, fds);
        return null;
      } catch (error) {
        if (error instanceof Errno) return error.code;
        throw error;
      }
    };
    const event = createEventfd('not a dma-buf');
    const [buffer] = lender.feature(featureArgument(EXPORT as Extract<Step, { op: 'export' }>, 0)).fds;
    assert.equal(code(lender, []), 'EBADF');
    assert.equal(code(lender, [event.fd]), 'EINVAL');
    assert.equal(code(borrower, [buffer.fd]), 'ENODEV');
    assert.equal(code(lender, [buffer.fd]), null);
    assert.equal(code(lender, [buffer.fd]), 'EBADFD');
    for (const each of [event, buffer, lender, borrower]) each.close();
  } finally {
    await served.stop();
    rmSync(socketDir, { recursive: true });
  }
});
