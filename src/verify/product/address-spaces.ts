/** Imports of a buffer into I/O address spaces, against triggers that take the buffer's memory back. */

import type { ProgramFamily } from '../../explore/world/program.ts';
import type { Step } from '../../scenario/step.ts';
import { InvariantError } from '../../task/lifetime.ts';
import { EXPORT, OFF, OPEN, scenario, steps } from './family.ts';

const PAGE = 4096;
const OPEN_FOR_IOMMUFD = OPEN.map((step) => (step.op === 'open' ? { ...step, cdev: true } : step));
const ALLOC: Step = { op: 'ioas-alloc', as: 'ioas' };
const MAP_FILE: Step = { op: 'ioas-map-file', ioas: 'ioas', fd: 'buf', start: 0, length: PAGE, iova: 0x10000 };
const UNMAP: Step = { op: 'ioas-unmap', ioas: 'ioas', iova: 0x10000, length: PAGE };
const ATTACH_DEVICE: Step = { op: 'ioas-attach', device: 'borrower', ioas: 'ioas' };
const DETACH_DEVICE: Step = { op: 'ioas-detach', device: 'borrower' };
const ALLOC_OTHER: Step = { op: 'ioas-alloc', as: 'other' };
const COPY: Step = {
  op: 'ioas-copy',
  ioas: 'other',
  from: 'ioas',
  fromIova: 0x10000,
  length: PAGE,
  iova: 0x20000,
};

/** Memory goes off while `iommufd` runs. Afterwards no domain may translate to it. */
function revokeVersus(name: string, summary: string, before: readonly Step[], iommufd: readonly Step[]): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN_FOR_IOMMUFD, EXPORT, ALLOC, ...before]);
    set.task('revoker', [OFF]);
    set.task('iommufd', iommufd);
    set.check(() => {
      for (const { domain } of set.world.attached.values()) {
        if (domain.mappingCount > 0) throw new InvariantError('I2', `${domain.name} translates to what was taken back`);
      }
    });
  });
}

export const ADDRESS_SPACES: readonly ProgramFamily[] = [
  steps(
    'ioas-vs-release',
    'a buffer is mapped into an address space by a descriptor that another thread closes',
    [EXPORT, ALLOC],
    { iommufd: [MAP_FILE], releaser: [{ op: 'close-fd', fd: 'buf' }] },
  ),
  revokeVersus(
    'revoke-vs-map-file',
    'memory goes off while a buffer is mapped into the address space of a device, and unmapped',
    [ATTACH_DEVICE],
    [MAP_FILE, UNMAP],
  ),
  revokeVersus(
    'revoke-vs-attach-domain',
    'memory goes off while a domain is attached to an address space',
    [MAP_FILE],
    [ATTACH_DEVICE],
  ),
  revokeVersus(
    'revoke-vs-detach-domain',
    'memory goes off while a domain is detached from an address space, and attached again',
    [ATTACH_DEVICE, MAP_FILE],
    [DETACH_DEVICE, ATTACH_DEVICE],
  ),
  revokeVersus(
    'revoke-vs-copy',
    'memory goes off while an import is copied into another address space, and the original goes',
    [ALLOC_OTHER, { op: 'ioas-attach', device: 'borrower', ioas: 'other' }, MAP_FILE],
    [COPY, UNMAP],
  ),
  scenario('unmap-vs-copy', 'an import is copied while another thread unmaps its only area', (set) => {
    set.prepare([...OPEN, EXPORT, ALLOC, ALLOC_OTHER, MAP_FILE, { op: 'close-fd', fd: 'buf' }]);
    set.task('unmapper', [UNMAP]);
    set.task('copier', [COPY]);
  }),
];
