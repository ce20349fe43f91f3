/** A server on the test's own thread. It runs only when the test calls it, so the test controls every step. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memfdMemory } from '../../src/linux/bar-memory.ts';
import { buildMachine } from '../../src/machine/build.ts';
import type { VfioPciCoreDevice } from '../../src/vfio/core.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES } from '../../src/vfio/profile.ts';
import { IMPORTER_TIMEOUT_MS } from '../../src/vfio-user/dma-buf/limits.ts';
import type { Monitor } from '../../src/vfio-user/monitor/monitor.ts';
import { VfioUserServer } from '../../src/vfio-user/server/server.ts';
import type { TapSink } from '../../src/vfio-user/wire/tap.ts';
import { encodeVersion } from '../../src/vfio-user/wire/version.ts';
import { message, RawClient } from './raw-client.ts';
import { MACHINE } from './served.ts';

export class InProcessServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'barter-in-'));
  readonly log: string[] = [];
  readonly server: VfioUserServer;
  readonly devices: ReadonlyMap<string, VfioPciCoreDevice>;
  private readonly memories: { close(): void }[] = [];

  constructor(
    machine = MACHINE,
    importerTimeoutMs = IMPORTER_TIMEOUT_MS,
    tap: TapSink | null = null,
    monitor: Monitor | null = null,
  ) {
    this.server = new VfioUserServer((line) => this.log.push(line), importerTimeoutMs, { tap, monitor });
    const { functions } = buildMachine(machine, (label, sizeBytes) => {
      const memory = memfdMemory(label, sizeBytes);
      this.memories.push(memory);
      return memory;
    });
    this.devices = new Map(buildVfioDevices(functions, PROFILES.default));
    for (const [name, vdev] of this.devices) this.server.serve(vdev, this.path(name));
  }

  path(device: string): string {
    return join(this.folder, `${device}.sock`);
  }

  /** Lets the server do all pending work. */
  pump(): void {
    while (this.server.loop.turn(0)) {}
  }

  /** A client after its handshake. */
  ready(device: string): RawClient {
    const client = new RawClient(this.path(device));
    client.send(message({ command: 1 }, encodeVersion()));
    this.pump();
    if (client.tryReceive()?.error !== 0) throw new Error(`VERSION was refused by ${device}`);
    return client;
  }

  close(): void {
    this.server.stop();
    this.server.run();
    for (const memory of this.memories) memory.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
