/** A snapshot puts back everything that its roots reach, in place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { KeptWorld } from '../../src/explore/world/kept-world.ts';
import { NotKeptError, Snapshot } from '../../src/explore/world/snapshot.ts';
import { replace } from '../../src/verify/mutants/overlay.ts';

type Value = unknown;

/** Values of all kinds that a snapshot knows. */
const { value } = fc.letrec<{ value: Value; inner: Value }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom<Value>(0, 1, 'a', null, undefined, true, Number.NaN, 2n ** 70n),
    fc.uint8Array({ maxLength: 4 }),
    tie('inner'),
  ),
  inner: fc.oneof(
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('value'), { noNullPrototype: true }),
    fc.array(fc.tuple(tie('value'), tie('value')), { maxLength: 3 }).map((entries) => new Map(entries)),
    fc.array(tie('value'), { maxLength: 3 }).map((values) => new Set(values)),
  ),
}));

/** All objects below a value. */
function reached(root: Value): object[] {
  const found = new Set<object>();
  const visit = (one: Value): void => {
    if (typeof one !== 'object' || one === null || found.has(one)) return;
    found.add(one);
    if (one instanceof Map) for (const entry of one) entry.forEach(visit);
    else if (one instanceof Set) one.forEach(visit);
    else if (!ArrayBuffer.isView(one)) Object.values(one).forEach(visit);
  };
  visit(root);
  return [...found];
}

/** Changes one object in place, in one of the ways that its kind has. */
function change(object: object, how: number, to: Value): void {
  if (object instanceof Uint8Array) object.fill(how);
  else if (object instanceof Map) how % 2 === 0 ? object.clear() : object.set(to, how);
  else if (object instanceof Set) how % 2 === 0 ? object.clear() : object.add(to);
  else if (Array.isArray(object)) how % 3 === 0 ? object.push(to) : how % 3 === 1 ? object.pop() : object.fill(to);
  else {
    const fields = object as Record<string, Value>;
    if (how % 2 === 0) fields[['a', 'b', 'd'][how % 3]] = to;
    else delete fields[Object.keys(fields)[0]];
  }
}

const changes = fc.array(fc.tuple(fc.nat(), fc.nat(5), value), { maxLength: 12 });

/** Whether every object is itself again after random changes. */
function putsBack(root: Value, all: readonly (readonly [number, number, Value])[]): boolean {
  const copy = structuredClone(root);
  const objects = reached(root);
  const snapshot = new Snapshot([root]);
  for (let n = 0; n < 2; n++) {
    for (const [at, how, to] of all) if (objects.length > 0) change(objects[at % objects.length], how, to);
    snapshot.restore();
    const again = reached(root);
    if (again.length !== objects.length || again.some((object) => !objects.includes(object))) return false;
    if (!isDeepStrictEqual(root, copy)) return false;
  }
  return true;
}

test('random changes of random values', () => {
  fc.assert(fc.property(value, changes, putsBack), { numRuns: 300, seed: 19, endOnFailure: true });
});

test('the test notices each kind of object that is not put back', () => {
  for (const kind of ['fields', 'arrays', 'bytes', 'maps', 'sets']) {
    const { restore } = Snapshot.prototype;
    const undo = replace(Snapshot.prototype, 'restore', function (this: Snapshot) {
      Object.assign(this, { [kind]: [] });
      restore.call(this);
    });
    const { failed } = fc.check(fc.property(value, changes, putsBack), { numRuns: 300, seed: 19, endOnFailure: true });
    undo();
    assert.ok(failed, kind);
  }
});

test('hidden state is refused', () => {
  const running = (function* () {})();
  assert.throws(() => new Snapshot([{ running }]), NotKeptError);
});

test('views of one buffer are put back byte by byte, and accessors are left alone', () => {
  const bytes = new Uint8Array([1, 2, 3, 4]);
  const object = {
    low: bytes.subarray(0, 3),
    view: new DataView(bytes.buffer, 1, 2),
    get sum(): number {
      return this.low[0] + this.low[1];
    },
  };
  const snapshot = new Snapshot([object]);
  bytes.fill(9);
  snapshot.restore();
  assert.deepEqual([...bytes], [1, 2, 3, 9]);
  assert.equal(object.sum, 3);
});

test('a later call of keep is part of the state that comes back', () => {
  const kept = new KeptWorld();
  const world = { steps: ['made'] };
  kept.begin();
  assert.equal(kept.again(), null);
  kept.add({ value: world, nextSerial: 1, born: [] }, {});
  world.steps.push('prepared');
  kept.add({ value: undefined, nextSerial: 2, born: [] }, {});
  world.steps.push('run');
  kept.begin();
  assert.deepEqual(world.steps, ['made', 'prepared']);
  assert.equal(kept.again()?.nextSerial, 1);
  assert.equal(kept.again()?.nextSerial, 2);
  assert.equal(kept.again(), null);
});
