/** Load on a lender and a borrower in the guest: copies of random sizes, and revokes at random moments. */
import { Random } from '../../../src/explore/search/random.ts';
import type { Mapping } from '../../../src/linux/mapping.ts';
import { pattern } from '../../importer/pattern.ts';
import type { PeerAnswer } from '../calls.ts';
import type { Lent, PeerTrial } from './trial.ts';

const MIN_BYTES = 4096;
const MAX_BYTES = 2 ** 20;
const REVOKE_CHANCE = 0.3;
/** A short copy ends before a revoke reaches it, so most copies meant to be interrupted are long. */
const LONG_BYTES = MAX_BYTES / 2;
const LONG_CHANCE = 0.7;
const LONGEST_WAIT_MS = 6;

/** Knows every byte of the ranges before and after each copy: the old byte, or the one that the copy wrote. */
export class PeerLoad {
  private readonly trial: PeerTrial;
  private readonly random: Random;
  private readonly bar: Mapping;
  private readonly known: Buffer[];
  private readonly done: NonNullable<PeerAnswer['load']> = {
    copies: 0,
    bytes: 0,
    failed: 0,
    revokes: 0,
    inFlight: 0,
    wrong: [],
  };

  constructor(trial: PeerTrial, seed: number) {
    this.trial = trial;
    this.random = new Random(seed);
    const end = Math.max(...trial.lent.map(({ offset, length }) => offset + length));
    trial.step({ op: 'mmap', device: 'lender', region: 0, offset: 0, length: end, as: 'load' });
    this.bar = trial.world.maps.get('load')!;
    this.known = trial.lent.map((each) => Buffer.from(this.bytesOf(each)));
  }

  run(seconds: number): NonNullable<PeerAnswer['load']> {
    const end = performance.now() + 1000 * seconds;
    while (performance.now() < end) this.round();
    this.trial.step({ op: 'munmap', map: 'load' });
    return this.done;
  }

  private round(): void {
    const i = Math.floor(this.random.fraction() * this.trial.lent.length);
    const lent = this.trial.lent[i];
    const revokes = this.random.fraction() < REVOKE_CHANCE;
    const least = revokes && this.random.fraction() < LONG_CHANCE ? LONG_BYTES : MIN_BYTES;
    const length = Math.floor(least * (MAX_BYTES / least) ** this.random.fraction());
    const offset = Math.floor(this.random.fraction() * (lent.length - length));
    const seed = Math.floor(this.random.fraction() * 2 ** 31);
    this.trial.mark('submitting');
    lent.importer.submit(lent.map, offset, length, seed);
    if (revokes) this.revoke();
    const { result, parts, of } = lent.importer.collect();
    if (revokes) this.restore();
    this.done.copies += 1;
    if (result === 'done') this.done.bytes += length;
    else {
      this.done.failed += 1;
      if (parts < of) this.done.inFlight += 1;
      // The driver aborts copies on its own, as PeerTrial.copy says. Their bytes are checked all the same.
      if (!revokes && result !== 'aborted')
        this.complain(`failed without a revoke: ${result}, ${parts} of ${of} parts`);
    }
    this.check(i, offset, pattern(seed, offset, length), result === 'done');
  }

  private revoke(): void {
    const wait = performance.now() + this.random.fraction() * LONGEST_WAIT_MS;
    while (performance.now() < wait) {}
    this.trial.mark('before');
    this.trial.step({ op: 'memory', device: 'lender', on: false });
    this.trial.mark('returned');
    this.done.revokes += 1;
  }

  private restore(): void {
    this.trial.mark('restored');
    this.trial.step({ op: 'memory', device: 'lender', on: true });
    this.trial.mapAll();
  }

  /** After a successful copy all its bytes are there. After a failed one each byte is either copied or unchanged. */
  private check(i: number, offset: number, written: Buffer, isDone: boolean): void {
    const known = this.known[i];
    const seen = Buffer.from(this.bytesOf(this.trial.lent[i]));
    const part = seen.subarray(offset, offset + written.length);
    if (isDone) written.copy(known, offset);
    else {
      for (let at = 0; at < written.length; at++) {
        if (part[at] === written[at]) known[offset + at] = written[at];
      }
    }
    if (!seen.equals(known)) {
      const at = seen.findIndex((byte, index) => byte !== known[index]);
      const where = `byte 0x${at.toString(16)} of range ${i}`;
      this.complain(
        `${where} is ${seen[at]}, not ${known[at]}; copied 0x${written.length.toString(16)} bytes at 0x${offset.toString(16)}`,
      );
    }
    seen.copy(known);
  }

  private complain(what: string): void {
    this.done.wrong.push(`copy ${this.done.copies}: ${what}`);
  }

  private bytesOf({ offset, length }: Lent): Uint8Array {
    return this.bar.bytes.subarray(offset, offset + length);
  }
}
