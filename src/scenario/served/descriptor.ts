/**
 * Steps on the descriptor of a dma-buf, over vfio-user: the descriptor is a socket that answers requests of a session.
 */
import { POLLIN, POLLOUT } from '../../abi/poll.ts';
import { dmaBufLseek } from '../../dma-buf/ioctl.ts';
import { BlockingImporter } from '../../vfio-user/dma-buf/blocking-importer.ts';
import type { StepIn } from '../step.ts';
import { unsupported } from './check.ts';
import type { VfioUserWorld } from './world.ts';

export function descriptorStep(world: VfioUserWorld, step: StepIn<'descriptor'>): unknown {
  switch (step.op) {
    case 'close-fd':
      world.buffer(step.fd).fd.close();
      world.buffers.delete(step.fd);
      return null;
    case 'dup-fd': {
      const { fd, sizeBytes } = world.buffer(step.fd);
      world.buffers.set(step.as, { fd: fd.duplicate(), sizeBytes });
      return null;
    }
    case 'lseek':
      return ask(world, step.fd, (client) => dmaBufLseek(client.query(), step.offset, step.whence));
    case 'set-name':
      return ask(world, step.fd, (client) => client.setName(step.name)) ?? null;
    case 'fdinfo': {
      const { sizeBytes, exporter: exp_name, name } = ask(world, step.fd, (client) => client.query());
      return { size: String(sizeBytes), exp_name, ...(name === '' ? {} : { name }) };
    }
    case 'poll': {
      const ready = ask(world, step.fd, (client) => client.wait(POLLIN | POLLOUT, 0));
      return { readable: (ready & POLLIN) !== 0, writable: (ready & POLLOUT) !== 0 };
    }
    default:
      return unsupported(step);
  }
}

/** Makes one request of a buffer through its descriptor, in a separate session. */
function ask<T>(world: VfioUserWorld, name: string, question: (client: BlockingImporter) => T): T {
  const client = new BlockingImporter(world.buffer(name).fd, { onInvalidate: () => {} }, world.loop);
  try {
    return question(client);
  } finally {
    client.close();
  }
}
