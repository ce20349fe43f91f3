/**
 * Importers that send anything through a lent dma-buf, answer INVALIDATE correctly, wrongly or never, and leave at any
 * moment. Meanwhile the lender takes its memory back and lends it again. A bystander on the same buffer always gets
 * right answers, and every revoke ends.
 */
import { DMA_BUF_SOCKET_QUERY } from '../../src/abi/dma-buf-socket.ts';
import { VFIO_USER_DEVICE_FEATURE, VFIO_USER_REGION_WRITE } from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { InProcessServer } from '../vfio-user/in-process.ts';
import { exportArgument } from '../vfio-user/lent.ts';
import { message, type RawClient } from '../vfio-user/raw-client.ts';
import { OPEN, RawImporter, sendPacket } from '../vfio-user/raw-importer.ts';
import { FuzzedImporter } from './fuzzed-importer.ts';
import { FuzzFinding, type FuzzRun } from './fuzzer.ts';

const SIZE = 65536;
const IMPORTERS = 4;
const BATCH = 12;
/** Short, so that blocked revokes end within a run. */
const TIMEOUT_MS = 5;
const MAX_REVOKE_MS = 2000;
const REVOKE_EVERY = 16;

/** The lender's client: it waits for each revoke to end. */
class FuzzedLender {
  readonly buffer: OwnedFd;
  private readonly served: InProcessServer;
  private readonly client: RawClient;
  private isOn = true;
  private since: number | null = null;

  constructor(served: InProcessServer) {
    this.served = served;
    this.client = served.ready('lender');
    this.memory(true);
    this.client.send(message({ command: VFIO_USER_DEVICE_FEATURE }, exportArgument({})));
    served.pump();
    this.client.tryReceive();
    const reply = this.client.tryReceive();
    if (reply?.fds.length !== 1) throw new FuzzFinding('the export was refused');
    this.buffer = reply.fds[0];
    this.since = null;
  }

  toggle(): void {
    if (this.since === null) this.memory(!this.isOn);
  }

  /** Checks whether the last change of the memory bit is done. */
  check(): void {
    if (this.since === null) return;
    const reply = this.client.tryReceive();
    if (reply === null) throw new FuzzFinding('the lender was dropped');
    if (reply !== undefined) this.since = null;
    else if (performance.now() - this.since > MAX_REVOKE_MS) throw new FuzzFinding('a revoke does not end');
    else this.served.server.loop.turn(1);
  }

  get isWaiting(): boolean {
    return this.since !== null;
  }

  close(): void {
    this.buffer.close();
    this.client.close();
  }

  private memory(on: boolean): void {
    this.isOn = on;
    this.since = performance.now();
    const payload = Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, on ? 6 : 4, 0]);
    this.client.send(message({ command: VFIO_USER_REGION_WRITE }, payload));
  }
}

export function fuzzImporters({ random, messages, coverage }: FuzzRun): void {
  const served = new InProcessServer(undefined, TIMEOUT_MS);
  const lender = new FuzzedLender(served);
  const memfd = createMemfd('fuzz', 4096);
  const bystander = new RawImporter(lender.buffer);
  served.pump();
  bystander.receive(false);
  const importers: (FuzzedImporter | null)[] = new Array(IMPORTERS).fill(null);
  try {
    for (let sent = 0, batches = 0; sent < messages; batches++) {
      const i = random.below(IMPORTERS);
      const importer = importers[i] ?? new FuzzedImporter(lender.buffer, coverage);
      importers[i] = importer;
      for (let n = random.below(BATCH); n >= 0; n--, sent++) importer.send(random, memfd);
      if (random.chance(20))
        sendPacket(lender.buffer.fd, OPEN.subarray(random.below(3)), random.chance(2) ? [memfd.fd] : []);
      if (batches % REVOKE_EVERY === 0) lender.toggle();
      served.pump();
      lender.check();
      for (const each of importers) each?.check(random);
      if (importer.ended || random.chance(40)) {
        importer.close();
        importers[i] = null;
      }
      askBystander(served, bystander);
      checkLog(served);
    }
  } finally {
    for (const importer of importers) importer?.close();
    while (lender.isWaiting) {
      served.pump();
      lender.check();
    }
    for (const each of [bystander, lender, memfd]) each.close();
    served.pump();
    served.close();
  }
  checkLog(served);
}

function askBystander(served: InProcessServer, bystander: RawImporter): void {
  bystander.send({ command: DMA_BUF_SOCKET_QUERY });
  served.pump();
  const reply = bystander.receive(false);
  if (reply?.error !== 0 || reply.payload.readUInt32LE() !== SIZE) {
    throw new FuzzFinding('a bystander got a wrong answer, or none');
  }
}

function checkLog(served: InProcessServer): void {
  for (const line of served.log.splice(0)) {
    if (!/^importer dropped: .*: E[A-Z]+: |keeps| more lines in \d+ s/.test(line) || line.includes('\n')) {
      throw new FuzzFinding(`the server says: ${line}`);
    }
  }
}
