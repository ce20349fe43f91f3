/** Steps on the descriptor of a dma-buf or a sync file, on a real kernel. */
import {
  dmaBufExportSyncFile,
  dmaBufFdinfo,
  dmaBufFileCall,
  dmaBufImportSyncFile,
  dmaBufMap,
  dmaBufPoll,
  dmaBufSeek,
  dmaBufSetName,
  dmaBufSync,
} from '../../linux/dma-buf.ts';
import { holdFd } from '../../linux/hold.ts';
import { named } from '../backend.ts';
import type { StepIn, StepOf } from '../step.ts';
import type { LinuxWorld } from './world.ts';

export function descriptorStep(world: LinuxWorld, step: StepIn<'descriptor'>): unknown {
  switch (step.op) {
    case 'close-fd': {
      const fd = world.fd(step.fd);
      world.fds.delete(step.fd);
      return fd.close();
    }
    case 'dup-fd':
      world.fds.set(step.as, world.fd(step.fd).duplicate());
      return null;
    case 'hold-fd':
      world.holds.set(step.as, holdFd(world.fd(step.fd), step.how));
      return null;
    case 'release-hold': {
      const hold = named(world.holds, step.hold, 'hold');
      world.holds.delete(step.hold);
      hold.release();
      return null;
    }
    case 'lseek':
      return dmaBufSeek(world.fd(step.fd), step.offset, step.whence);
    case 'mmap-fd':
      return mmapFd(world, step);
    case 'fd-call':
      return dmaBufFileCall(world.fd(step.fd), step.call);
    case 'set-name':
      return dmaBufSetName(world.fd(step.fd), step.name);
    case 'sync':
      return dmaBufSync(world.fd(step.fd), step.flags);
    case 'poll':
      return dmaBufPoll(world.fd(step.fd));
    case 'fdinfo': {
      const { size, exp_name, name } = dmaBufFdinfo(world.fd(step.fd));
      return { size, exp_name, ...(name === undefined ? {} : { name }) };
    }
    case 'export-sync-file':
      world.fds.set(step.as, dmaBufExportSyncFile(world.fd(step.fd), step.flags));
      return null;
    case 'import-sync-file':
      return dmaBufImportSyncFile(world.fd(step.fd), step.flags, world.fdNumber(step.sync));
  }
}

function mmapFd(world: LinuxWorld, step: StepOf<'mmap-fd'>): null {
  const { offset = 0, length = 4096, private: isPrivate = false, as } = step;
  const mapping = dmaBufMap(world.fd(step.fd), length, { offset, isPrivate });
  if (as === undefined) mapping.close();
  else world.maps.set(as, mapping);
  return null;
}
