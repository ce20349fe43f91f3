/** A machine served by a thread of this process, with checks for leftovers. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../src/abi/errno.ts';
import { parseMachine } from '../../src/machine/load.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { type ServedMachine, serveMachine } from '../../src/machine/served.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { openFds } from '../linux/open-fds.ts';

/** A lender with memory and an MSI-X table, a borrower with a DMA engine, and a bystander that nothing may disturb. */
export const MACHINE: MachineDescription = parseMachine(
  `
machine: three
ports:
  - { name: root, kind: root }
  - { name: up, kind: upstream, parent: root }
  - { name: slot0, kind: downstream, parent: up }
  - { name: slot1, kind: downstream, parent: up }
  - { name: slot2, kind: downstream, parent: up }
devices:
  - name: lender
    model: memory
    port: slot0
    bars:
      - { index: 0, kind: mem64, prefetchable: true, size: 1M }
      - { index: 2, kind: mem32, size: 16K }
    capabilities:
      pm: {}
      express: { flr: true }
      msix: { vectors: 4, bar: 2, tableOffset: 0x1000, pbaOffset: 0x2000 }
  - { name: borrower, model: ioat, port: slot1, capabilities: { pm: {}, express: { flr: true } } }
  - name: bystander
    model: memory
    port: slot2
    bars:
      - { index: 0, kind: mem32, size: 4K }
    capabilities:
      express: { flr: true }
`,
  'three.yaml',
);

export class TestServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'barter-vu-'));
  readonly log: string[] = [];
  private served: ServedMachine | null = null;
  private idleFds: string[] = [];

  async start(machine = MACHINE, importerTimeoutMs = 3000): Promise<void> {
    const log = (line: string) => this.log.push(line);
    this.served = await serveMachine(machine, { socketDir: this.folder, importerTimeoutMs, log });
    this.idleFds = openFiles();
  }

  path(device: string): string {
    return join(this.folder, `${device}.sock`);
  }

  /** Waits until client and server together hold what they held before the first client, and no client's memory. */
  async assertNothingLeft(): Promise<void> {
    const deadline = performance.now() + 5000;
    const isClean = () => openFiles().join() === this.idleFds.join() && mapsOf('memfd:test').length === 0;
    while (!isClean() && performance.now() < deadline) await sleep(5);
    assert.deepEqual(openFiles(), this.idleFds, 'descriptors are left');
    assert.deepEqual(mapsOf('memfd:test'), [], 'mappings are left');
  }

  async stop(): Promise<void> {
    await this.served?.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** All open files, without their numbers: a BAR's memory may move to a fresh file. */
function openFiles(): string[] {
  return openFds()
    .map((line) => line.slice(line.indexOf(' ') + 1))
    .sort();
}

/** Lines of /proc/self/maps that name a file. */
export function mapsOf(name: string): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(name));
}

/** One server for the tests of a file. It is ready when this resolves, and ends with the tests. */
export async function withServer(machine = MACHINE, importerTimeoutMs = 3000): Promise<TestServer> {
  const server = new TestServer();
  await server.start(machine, importerTimeoutMs);
  after(() => server.stop());
  return server;
}

/** Connects as soon as the previous client has completely gone. Another thread notices that client's end. */
export async function connectWhenFree(path: string): Promise<VfioUserClient> {
  for (const deadline = performance.now() + 5000; ; await sleep(2)) {
    try {
      return new VfioUserClient(path);
    } catch (error) {
      if (!(error instanceof Errno) || error.code !== 'EBUSY' || performance.now() > deadline) throw error;
    }
  }
}
