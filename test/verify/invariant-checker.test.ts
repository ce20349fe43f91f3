/** The checker of the product's objects, in cases that the mutants do not reach. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { EXPORT, OPEN } from '../../src/verify/product/family.ts';
import { ProductStage } from '../../src/verify/product/stage.ts';

async function findingOf(build: (set: ProductStage) => void): Promise<string> {
  const program: Program = {
    name: 'tiny',
    summary: '',
    build(stage) {
      const set = new ProductStage(stage);
      set.prepare([...OPEN, EXPORT]);
      build(set);
      set.checkAtEnd();
    },
  };
  return (await exploreProgram(program)).bug?.message ?? 'nothing';
}

test('bytes that a peer wrote and that are gone at the end', async () => {
  const attach = { op: 'attach', fd: 'buf', device: 'borrower', as: 'importer' } as const;
  const map = { op: 'map', importer: 'importer', as: 'mapping' } as const;
  const write = { op: 'region-write', device: 'lender', region: 0, offset: 0, bytes: '00000000' } as const;
  const message = await findingOf((set) => {
    set.prepare([attach, map]);
    set.dmaTask('importer', 'importer');
    set.task('user', [write]);
  });
  assert.match(message, /^I9: 4 bytes that importer wrote at offset 0 are not there$/);
  const other = await findingOf((set) => {
    set.prepare([attach, map]);
    set.dmaTask('importer', 'importer', 'lender', 16);
    set.task('user', [write]);
  });
  assert.equal(other, 'nothing');
});

test('an access to a BAR that does not decode', async () => {
  const message = await findingOf((set) => {
    const { pdev } = set.world.device('lender');
    set.rawTask(
      'stray',
      (function* () {
        yield* pdev.hardwareReset();
        pdev.bars[0]!.target.read(0, new Uint8Array(1));
      })(),
    );
  });
  assert.match(message, /^I1: a buffer of lender is lent though its BAR does not decode$/);
  const revokedFirst = await findingOf((set) => {
    const { pdev } = set.world.device('lender');
    set.task('user', [{ op: 'memory', device: 'lender', on: false }]);
    set.rawTask(
      'stray',
      (function* () {
        yield* pdev.memoryDecode.waitUntil((decodes) => !decodes);
        pdev.bars[0]!.target.read(0, new Uint8Array(1));
      })(),
    );
  });
  assert.match(revokedFirst, /^I9: an access reaches lender\.bar0, which does not decode$/);
});

test('a BAR given up while a buffer of it is exported', async () => {
  const message = await findingOf((set) => {
    const { pdev } = set.world.device('lender');
    set.rawTask(
      'thief',
      (function* () {
        yield* pdev.powerState.load();
        pdev.bars[0]!.claimed = false;
      })(),
    );
  });
  assert.match(message, /^I8: a buffer of lender is exported though BAR 0 is not claimed$/);
});

test('registrations that do not balance', async () => {
  const message = await findingOf((set) => {
    set.rawTask(
      'forgetful',
      (function* () {
        yield* set.world.device('lender').registration.tryGet();
      })(),
    );
  });
  assert.match(message, /^I3: lender ends with 2 registrations, not 1$/);
});
