/** A lying server's choices for one reply. */
import type { FuzzRandom } from './random.ts';

export type ServerLie =
  /** Right, but late: in front of a later reply, or never. */
  | 'late'
  | 'silent'
  /** Right, in two pieces; the second comes in the server's next turn. */
  | 'split'
  /** The payload is shorter, longer, or has other numbers in it. */
  | 'short'
  | 'long'
  | 'numbers'
  | 'error'
  /** Descriptors that nobody asked for, or none where one is due. */
  | 'more-fds'
  | 'no-fds'
  /** The server's own commands come first. */
  | 'commands'
  /** The header lies: from here on the stream means nothing. */
  | 'wrong-id'
  | 'wrong-command'
  | 'wrong-size'
  | 'wrong-flags'
  | 'twice'
  /** The server leaves, before or in the middle of its reply. */
  | 'leave'
  | 'cut';

const LIES: readonly ServerLie[] = [
  ...(['late', 'split', 'split', 'short', 'long', 'numbers', 'numbers', 'numbers', 'numbers'] as const),
  ...(['error', 'error', 'more-fds', 'more-fds', 'no-fds', 'commands', 'commands', 'commands'] as const),
  ...(['wrong-id', 'wrong-command', 'wrong-size', 'wrong-flags', 'twice', 'leave', 'cut'] as const),
];

/** After these, later replies may be taken for something else. */
export const WILD: ReadonlySet<ServerLie> = new Set([
  'wrong-id',
  'wrong-command',
  'wrong-size',
  'wrong-flags',
  'twice',
  'cut',
]);

/** Null for the truth. Waiting for a silent server takes real time, so that it is rare. */
export function chooseLie(random: FuzzRandom): ServerLie | null {
  if (random.chance(1000)) return 'silent';
  return random.chance(4) ? random.pick(LIES) : null;
}

/** Replaces some 32-bit words by numbers at a limit. */
export function withOddNumbers(random: FuzzRandom, payload: Buffer): Buffer {
  const bytes = Buffer.from(payload);
  for (let n = random.below(3); n >= 0; n--) {
    if (bytes.length < 4) return bytes;
    const at = 4 * random.below(Math.min(16, bytes.length >> 2));
    bytes.writeUInt32LE(random.chance(3) ? 0xffffffff - random.below(3) : random.edge() >>> 0, at);
  }
  return bytes;
}
