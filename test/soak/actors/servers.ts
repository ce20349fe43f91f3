/** Another server that is killed while the watched one borrows its memory, and one that takes over its sockets. */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { IoatDriver } from '../../../src/drivers/ioat.ts';
import { VfioUserClient } from '../../../src/vfio-user/client/client.ts';
import { startBarter } from '../../cli/barter.ts';
import { enableMemory, exportBuffer } from '../../vfio-user/lent.ts';
import { type Actor, repeat, type Stage } from './actor.ts';

const LENT_IOVA = 0x2000_0000;
const LENT_BYTES = 65536;
const BOTH = 3;

/** Borrows from the other server until that one is gone. */
async function borrow(stage: Stage, lender: VfioUserClient, kill: () => Promise<void>): Promise<void> {
  const client = new VfioUserClient(stage.path('foreign-engine'));
  try {
    enableMemory(lender, true);
    const buffer = exportBuffer(lender, { ranges: [[0, LENT_BYTES]] });
    const driver = new IoatDriver(client);
    client.dmaMap(LENT_IOVA, LENT_BYTES, BOTH, buffer.fd);
    buffer.close();
    if (driver.copy(LENT_IOVA, LENT_IOVA + 4096, 4096) === 'ok') stage.did('copied within foreign memory');
    await kill();
    // The exporter is gone, and its memory with it.
    for (let status = 'ok'; status === 'ok' && stage.goesOn(); await sleep(5)) {
      status = driver.copy(LENT_IOVA, LENT_IOVA + 4096, 4096);
    }
    driver.close();
    client.dmaUnmap(LENT_IOVA, LENT_BYTES);
  } finally {
    client.close();
  }
}

export const servers: Actor = (stage) =>
  repeat(stage, 'killed server', async () => {
    const { child, firstLine } = await startBarter(
      'serve',
      'examples/two-peers.yaml',
      '--socket-dir',
      stage.folder,
      '--json',
    );
    const ended = once(child, 'exit');
    const kill = async () => {
      child.kill('SIGKILL');
      await ended;
    };
    try {
      const [{ socket }] = JSON.parse(firstLine).devices as { socket: string }[];
      const lender = new VfioUserClient(socket);
      await borrow(stage, lender, kill);
      lender.close();
    } finally {
      await kill();
    }
  });
