/** The product's own scenarios: the functions that production runs, under every order that matters. */
import type { Step } from '../../scenario/step.ts';
import type { ProgramFamily } from '../program.ts';
import { ProductStage } from './stage.ts';

const BAR = 0;
const PAGE = 4096;

const OPEN: Step[] = [
  { op: 'open', device: 'lender' },
  { op: 'open', device: 'borrower' },
  { op: 'config-write', device: 'borrower', offset: 4, size: 2, value: 6 },
];
const EXPORT: Step = { op: 'export', device: 'lender', region: BAR, ranges: [[0, PAGE]], as: 'buf' };
const ATTACH: Step = { op: 'attach', fd: 'buf', device: 'borrower', as: 'importer' };
const MAP: Step = { op: 'map', importer: 'importer', as: 'mapping' };
const OFF: Step = { op: 'memory', device: 'lender', on: false };
const ON: Step = { op: 'memory', device: 'lender', on: true };
const WRITE: Step = { op: 'dma-write', map: 'mapping', offset: 0, bytes: '01020304' };

const TRIGGERS: Record<string, Step[]> = {
  memory: [OFF, ON],
  d3hot: [
    { op: 'power', device: 'lender', state: 3 },
    { op: 'power', device: 'lender', state: 0 },
  ],
  flr: [{ op: 'flr', device: 'lender' }],
  reset: [{ op: 'reset', device: 'lender' }],
  'hot-reset': [{ op: 'hot-reset', device: 'lender' }],
  'low-power': [
    { op: 'low-power-entry', device: 'lender' },
    { op: 'low-power-exit', device: 'lender' },
  ],
};

function custom(name: string, summary: string, build: (set: ProductStage) => void, registrations = 1): ProgramFamily {
  return {
    name,
    summary,
    sizes: null,
    isClassic: false,
    make: () => ({
      name,
      summary,
      build(stage) {
        const set = new ProductStage(stage);
        build(set);
        set.checkAtEnd(registrations);
      },
    }),
  };
}

function product(name: string, summary: string, prepare: Step[], tasks: Record<string, Step[]>): ProgramFamily {
  return custom(name, summary, (set) => {
    set.prepare([...OPEN, ...prepare]);
    for (const [label, steps] of Object.entries(tasks)) set.task(label, steps);
  });
}

/** An importer writes as it should, while the device's memory is taken. */
function dmaVersus(name: string, summary: string, trigger: Step[]): ProgramFamily {
  return custom(name, summary, (set) => {
    set.prepare([...OPEN, EXPORT, ATTACH, MAP]);
    set.task('revoker', trigger);
    set.dmaTask('importer', 'importer', Uint8Array.of(1, 2, 3, 4));
  });
}

const unregisterVersus = custom(
  'export-vs-unregister',
  'a buffer is exported while the driver is unbound',
  (set) => {
    set.prepare(OPEN);
    set.task('exporter', [EXPORT, { op: 'close', device: 'lender' }]);
    set.rawTask('unbinder', set.world.device('lender').unregister());
  },
  0,
);

const revokeVersus: ProgramFamily[] = [
  product('revoke-vs-map', 'memory goes off and on while an importer maps, writes and unmaps', [EXPORT, ATTACH], {
    revoker: [OFF, ON],
    importer: [MAP, { op: 'unmap', map: 'mapping' }],
  }),
  dmaVersus('revoke-vs-dma', 'memory goes off while an importer writes under a fence', [OFF]),
  dmaVersus('reset-vs-dma', 'the device is reset while an importer writes under a fence', TRIGGERS.reset),
  dmaVersus('close-vs-dma', 'the device closes while an importer writes under a fence', [
    { op: 'close', device: 'lender' },
  ]),
  unregisterVersus,
  product('revoke-vs-attach', 'memory goes off while an importer attaches', [EXPORT], {
    revoker: [OFF],
    importer: [ATTACH],
  }),
  product('revoke-vs-detach', 'memory goes off while an importer with a mapping detaches', [EXPORT, ATTACH, MAP], {
    revoker: [OFF],
    importer: [{ op: 'detach', importer: 'importer' }],
  }),
  product('revoke-vs-no-callback', 'memory goes off while an importer attaches that cannot be told', [EXPORT], {
    revoker: [OFF],
    importer: [{ ...ATTACH, kind: 'no-callback' } as Step, MAP],
  }),
  product('revoke-vs-export', 'memory goes off while a buffer is exported', [], { revoker: [OFF], exporter: [EXPORT] }),
  product('revoke-vs-close', 'memory goes off while the device closes', [EXPORT, ATTACH, MAP], {
    revoker: [OFF],
    closer: [{ op: 'close', device: 'lender' }],
  }),
  product('revoke-vs-release', 'memory goes off while the last descriptor is closed', [EXPORT], {
    revoker: [OFF],
    releaser: [{ op: 'close-fd', fd: 'buf' }],
  }),
  product(
    'revoke-vs-fence',
    'memory goes off while a fence of the importer is pending',
    [EXPORT, ATTACH, MAP, { op: 'add-fence', importer: 'importer', usage: 'bookkeep', as: 'fence' }],
    { revoker: [OFF], importer: [WRITE, { op: 'signal-fence', fence: 'fence' }] },
  ),
];

const names = Object.keys(TRIGGERS);
const triggerVersus = names.flatMap((a, i) =>
  names.slice(i + 1).map((b) =>
    product(`${a}-vs-${b}`, `two triggers at once: ${a} and ${b}`, [EXPORT, ATTACH, MAP], {
      [a]: TRIGGERS[a],
      [b]: TRIGGERS[b],
    }),
  ),
);

export const PRODUCT_PROGRAMS: readonly ProgramFamily[] = [...revokeVersus, ...triggerVersus];
