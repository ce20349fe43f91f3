/** Random steps on lent buffers and their importers. */
import type { Step } from '../../../src/scenario/step.ts';
import type { ProgramCommand } from './command.ts';
import { type MadeNames, pick } from './names.ts';

export function bufferStep({ verb, a, b, c }: ProgramCommand, i: number, names: MadeNames): Step | null {
  if (verb === 'export-sync-file' || verb === 'import-sync-file') return syncFileStep(verb, a, b, c, i, names);
  const fd = pick(names.fds, a);
  if (fd === null) return null;
  switch (verb) {
    case 'close-fd':
    case 'mmap-fd':
    case 'poll':
    case 'fdinfo':
      return { op: verb, fd };
    case 'dup-fd':
      names.fds.push(`dup${i}`);
      return { op: 'dup-fd', fd, as: `dup${i}` };
    case 'lseek':
      return { op: 'lseek', fd, offset: [0, 0, 1][b % 3], whence: c % 4 };
    case 'set-name':
      return { op: 'set-name', fd, name: 'n'.repeat([1, 31, 32][b % 3]) };
    case 'sync':
      return { op: 'sync', fd, flags: b % 9 };
    default:
      return null;
  }
}

function syncFileStep(
  verb: ProgramCommand['verb'],
  a: number,
  b: number,
  c: number,
  i: number,
  names: MadeNames,
): Step | null {
  const fd = pick(names.fds, a);
  if (fd === null) return null;
  if (verb === 'export-sync-file') {
    names.syncs.push(`sync${i}`);
    return { op: 'export-sync-file', fd, flags: b % 5, as: `sync${i}` };
  }
  return { op: 'import-sync-file', fd, flags: b % 5, sync: pick(names.syncs, c) ?? 'none' };
}

export function importerStep({ verb, a, b, c }: ProgramCommand, i: number, names: MadeNames): Step | null {
  if (verb === 'attach') {
    const fd = pick(names.fds, a);
    if (fd === null) return null;
    names.importers.push(`imp${i}`);
    const kind = (['dynamic', 'dynamic', 'dynamic', 'dynamic', 'static', 'no-p2p', 'no-callback'] as const)[b % 7];
    // A lender can borrow too, from another lender or from itself.
    const device = (['borrower', 'borrower', 'borrower', 'second', 'lender'] as const)[c % 5];
    return { op: 'attach', fd, device, as: `imp${i}`, kind, onInvalidate: b % 5 === 4 ? 'keep' : 'unmap' };
  }
  const fence = pick(names.fences, a);
  if (verb === 'signal') return fence === null ? null : { op: 'signal-fence', fence };
  const map = pick(names.mappings, a);
  if (verb === 'unmap') return map === null ? null : { op: 'unmap', map };
  if (verb === 'callbacks' && b % 4 === 0) return { op: 'callback-order' };
  const importer = pick(names.importers, a);
  if (importer === null) return null;
  switch (verb) {
    case 'map':
      names.mappings.push(`dma${i}`);
      return { op: 'map', importer, as: `dma${i}` };
    case 'detach':
    case 'callbacks':
      return { op: verb, importer };
    case 'pin':
      return { op: b % 2 === 0 ? 'pin' : 'unpin', importer };
    case 'fence':
      names.fences.push(`fence${i}`);
      return {
        op: 'add-fence',
        importer,
        usage: (['kernel', 'write', 'read', 'bookkeep'] as const)[b % 4],
        as: `fence${i}`,
      };
    default:
      return null;
  }
}
