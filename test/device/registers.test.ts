import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RegisterFile, type RegisterMap } from '../../src/device/registers.ts';

const MAP = {
  FIXED: { offset: 0, bytes: 1, access: 'read-only' },
  ORDER: { offset: 1, bytes: 1, access: 'command' },
  ERRORS: { offset: 2, bytes: 2, access: 'write-1-to-clear' },
  COUNT: { offset: 4, bytes: 4, access: 'read-write' },
  ADDRESS: { offset: 8, bytes: 8, access: 'read-write' },
} as const satisfies RegisterMap;

test('a map whose registers overlap, lie at odd places or leave the block is refused', () => {
  const spec = (offset: number, bytes: 1 | 2 | 4 | 8) => ({ offset, bytes, access: 'read-write' }) as const;
  assert.throws(() => new RegisterFile({ a: spec(0, 4), b: spec(2, 2) }, 16), /register b at 2/);
  assert.throws(() => new RegisterFile({ a: spec(2, 4) }, 16), /register a/);
  assert.throws(() => new RegisterFile({ a: spec(8, 8) }, 12), /register a/);
});

test('any write, however it lies: each byte does what its register says, and each register is told once', () => {
  const write = fc.record({ offset: fc.nat(19), bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }) });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), write, (initial, { offset, bytes }) => {
      const file = new RegisterFile(MAP, 20);
      file.bytes.set(initial);
      const from = bytes.subarray(0, 20 - offset);
      const told: (keyof typeof MAP)[] = [];
      file.write(offset, from, ({ name, at, bytes: part }) => {
        told.push(name);
        assert.deepEqual(
          part,
          from.subarray(MAP[name].offset + at - offset, MAP[name].offset + at - offset + part.length),
        );
      });
      const touched = (name: keyof typeof MAP): boolean =>
        MAP[name].offset < offset + from.length && MAP[name].offset + MAP[name].bytes > offset;
      const names = Object.keys(MAP) as (keyof typeof MAP)[];
      assert.deepEqual(
        told,
        names.filter((name) => name !== 'FIXED' && touched(name)),
      );
      for (let i = 0; i < 20; i++) {
        const written = i >= offset && i < offset + from.length ? from[i - offset] : null;
        const expected = written === null || i < 2 || i >= 16 ? initial[i] : i < 4 ? initial[i] & ~written : written;
        assert.equal(file.bytes[i], expected, `byte ${i}`);
      }
    }),
  );
});

test('values by name, of each width', () => {
  const file = new RegisterFile(MAP, 16);
  file.set('ORDER', 0x1ff);
  file.set('ERRORS', 0x12345);
  file.set('COUNT', -1);
  file.set64('ADDRESS', 0x1122334455667788n);
  assert.deepEqual([file.get('ORDER'), file.get('ERRORS'), file.get('COUNT')], [0xff, 0x2345, 0xffffffff]);
  assert.equal(file.get64('ADDRESS'), 0x1122334455667788n);
  const into = new Uint8Array(4);
  file.read(7, into);
  assert.deepEqual([...into], [0xff, 0x88, 0x77, 0x66]);
});
