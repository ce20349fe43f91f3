/** Steps on the descriptor of a dma-buf or a sync file, on the engine. */
import { PAGE_SIZE } from '../../abi/mman.ts';
import {
  dmaBufExportSyncFile,
  dmaBufFdinfo,
  dmaBufFileCall,
  dmaBufImportSyncFile,
  dmaBufLseek,
  dmaBufMmap,
  dmaBufPoll,
  dmaBufSetName,
  dmaBufSync,
} from '../../dma-buf/ioctl.ts';
import { DONE, type Task } from '../../task/op.ts';
import { named } from '../backend.ts';
import type { StepIn, StepOf } from '../step.ts';
import type { EngineWorld } from './world.ts';

export function* descriptorStep(world: EngineWorld, step: StepIn<'descriptor'>): Task<unknown> {
  switch (step.op) {
    case 'close-fd': {
      const fd = world.fd(step.fd);
      world.fds.delete(step.fd);
      return yield* world.files.close(fd);
    }
    case 'dup-fd': {
      const file = yield* world.files.get(world.fd(step.fd));
      return yield* world.install(file, step.as);
    }
    case 'hold-fd':
      return yield* hold(world, step);
    case 'release-hold': {
      const release = named(world.holds, step.hold, 'hold');
      world.holds.delete(step.hold);
      return yield* release();
    }
    case 'lseek':
      return dmaBufLseek(world.dmabuf(step.fd), step.offset, step.whence);
    case 'mmap-fd':
      return yield* mmapFd(world, step);
    case 'fd-call':
      return dmaBufFileCall(world.dmabuf(step.fd), step.call);
    case 'set-name':
      return dmaBufSetName(world.dmabuf(step.fd), step.name);
    case 'sync':
      return yield* dmaBufSync(world.dmabuf(step.fd), step.flags);
    case 'poll':
      return dmaBufPoll(world.dmabuf(step.fd));
    case 'fdinfo': {
      const { size, exp_name, name } = dmaBufFdinfo(world.dmabuf(step.fd));
      return { size, exp_name, ...(name === undefined ? {} : { name }) };
    }
    case 'export-sync-file': {
      const sync = yield* dmaBufExportSyncFile(world.dmabuf(step.fd), step.flags);
      return yield* world.install(sync, step.as);
    }
    case 'import-sync-file': {
      const sync = world.fds.has(step.sync) ? world.files.lookup(world.fd(step.sync)) : null;
      return yield* dmaBufImportSyncFile(world.dmabuf(step.fd), step.flags, sync);
    }
  }
}

/**
 * Another process, a message under way and a ring hold the file. A path holds the path alone, and a set of epoll
 * forgets the file when it is closed.
 */
function* hold(world: EngineWorld, { fd, how, as }: StepOf<'hold-fd'>): Task<null> {
  const file = yield* world.files.get(world.fd(fd));
  if (how === 'o-path') {
    file.holdPath();
    world.holds.set(as, () => file.putPath());
    yield* file.put();
  } else if (how === 'epoll') {
    world.holds.set(as, () => DONE);
    yield* file.put();
  } else {
    world.holds.set(as, () => file.put());
  }
  return null;
}

function* mmapFd(world: EngineWorld, step: StepOf<'mmap-fd'>): Task<null> {
  const { offset = 0, length = PAGE_SIZE, private: isPrivate = false, as } = step;
  const mapping = yield* dmaBufMmap(world.dmabuf(step.fd), { offset, sizeBytes: length, isPrivate });
  if (as === undefined) yield* mapping.unmap();
  else world.maps.set(as, mapping);
  return null;
}
