import assert from 'node:assert/strict';
import { test } from 'node:test';
import { barter } from './barter.ts';

test('what the lab does not have is refused with what there is, before anything is prepared', () => {
  const refused: [RegExp, string[]][] = [
    [/there is no kernel bsd; there are: distribution, iommufd, debug/, ['prepare', '--kernel', 'bsd']],
    [/there is no lab run nothing; there are: guest-export/, ['run', 'nothing']],
    [/--leak-check needs a kernel with kmemleak: --kernel debug/, ['run', 'guest-export', '--leak-check']],
    [/there is no lender iommufd with the kernel distribution; there are: barter/, ['diff', '--lender', 'iommufd']],
  ];
  for (const [message, command] of refused) {
    const { status, stdout, stderr } = barter('lab', ...command);
    assert.equal(status, 2, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  }
});
