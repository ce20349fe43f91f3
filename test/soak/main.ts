/** npm run soak -- [--minutes N] [--seed S] [--leak QUANTITY,...]: exits with 1 when the server is not right. */
import { parseArgs } from 'node:util';
import { availableActors, MAX_SETTLE_MS, roundSeconds, runSoak } from './soak.ts';
import { QUANTITIES } from './usage.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string' },
    leak: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
});
const minutes = Number(values.minutes);
const seed = values.seed === undefined ? Date.now() & 0x7fffffff : Number(values.seed);
const leaks = values.leak === '' ? [] : values.leak.split(',');
const isWrong =
  !(minutes > 0 && minutes <= 10_000) ||
  !Number.isSafeInteger(seed) ||
  leaks.some((each) => !(QUANTITIES as readonly string[]).includes(each));
if (isWrong || values.help) {
  console.error(`usage: npm run soak -- [--minutes N] [--seed S] [--leak QUANTITY,...]
  Everything at once on one server for N minutes (60): QEMU, importers, revokes, migrations, hostile clients, servers
  and clients that are killed. Prints a line each minute: values of the quiet server, and in brackets the most under
  load.
  Exits with 1 when a value grows beyond its plateau (docs/testing.md), or anything else is wrong.
  --leak makes the server leak, so that the soak must fail: ${QUANTITIES.join(', ')}`);
  process.exit(isWrong ? 2 : 0);
}

const print = (line: string): void => console.log(line);
const seconds = 60 * minutes;
const faults = await runSoak({
  seconds,
  roundSeconds: roundSeconds(seconds),
  settleMs: MAX_SETTLE_MS,
  seed,
  actors: availableActors(print),
  leaks,
  print,
});
for (const fault of faults) console.error(fault);
console.log(faults.length === 0 ? `soak: right for ${minutes} min (seed ${seed})` : `soak: FAILED (seed ${seed})`);
process.exitCode = faults.length === 0 ? 0 : 1;
