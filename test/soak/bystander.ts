/** A client that stays connected for a whole soak, reads back what it wrote, and measures how long it waits. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { AsyncVfioUserClient } from '../../src/vfio-user/client/async-client.ts';

const EVERY_MS = 10;

export class SoakBystander {
  private readonly client: AsyncVfioUserClient;
  private readonly ended: Promise<void>;
  private goesOn = true;
  private checks = 0;
  private worstMs = 0;

  private constructor(client: AsyncVfioUserClient) {
    this.client = client;
    this.ended = this.run();
    // The error is taken at `close`, or by the race of a round.
    this.ended.catch(() => {});
  }

  static async connect(path: string): Promise<SoakBystander> {
    const client = await AsyncVfioUserClient.connect(path, { timeoutMs: 60_000 });
    await client.writeRegion(7, 4, Buffer.from([6, 0]));
    return new SoakBystander(client);
  }

  /** Rejects with the first failure. */
  get failure(): Promise<void> {
    return this.ended;
  }

  /** Checks and the longest wait since the last call. */
  take(): { checks: number; worstMs: number } {
    const taken = { checks: this.checks, worstMs: this.worstMs };
    this.checks = 0;
    this.worstMs = 0;
    return taken;
  }

  async close(): Promise<void> {
    this.goesOn = false;
    await this.ended;
    this.client.close();
  }

  private async run(): Promise<void> {
    for (let value = 1; this.goesOn; value = (value % 255) + 1) {
      const started = performance.now();
      await this.client.writeRegion(0, 64, Buffer.alloc(8, value));
      const read = await this.client.readRegion(0, 64, 8);
      this.worstMs = Math.max(this.worstMs, performance.now() - started);
      assert.deepEqual(read, Buffer.alloc(8, value), 'the bystander read something else');
      this.checks += 1;
      await sleep(EVERY_MS);
    }
  }
}
