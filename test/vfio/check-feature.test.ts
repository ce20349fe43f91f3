/** vfio_check_feature, for all flags. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checkFeature } from '../../src/vfio/check-feature.ts';

const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18];

test('what is asked must be supported; a probe is answered; all else needs a payload', () => {
  const some = fc.constantFrom(0, GET, SET, GET | SET);
  fc.assert(
    fc.property(some, some, fc.boolean(), fc.nat(20), fc.nat(20), (asked, supported, probes, argsz, minBytes) => {
      const check = () => checkFeature(11, asked | (probes ? PROBE : 0) | 11, argsz, supported, minBytes);
      if ((asked & ~supported) !== 0) assert.throws(check, { code: 'EINVAL' });
      else if (probes) assert.equal(check(), false);
      else if (asked === 0 || argsz < minBytes) assert.throws(check, { code: 'EINVAL' });
      else assert.equal(check(), true);
    }),
  );
});
