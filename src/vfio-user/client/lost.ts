/** The end of a connection: why no call on it works any more. */
import { ERRNO, Errno } from '../../abi/errno.ts';

/** The connection is of no more use: the server is gone, or what it sends can no longer be told apart. */
export class LostError extends Errno {}

/** Returns why a system call on the socket of the server at `path` failed. */
export function lost(result: number, path: string): LostError {
  if (result === 0) return new LostError('ECONNRESET', `${path}: the server closed the connection`);
  if (result === -ERRNO.EPIPE) return new LostError('EPIPE', `${path}: the server closed the connection`);
  const { code } = Errno.fromCode(-result, '');
  return new LostError(code, `${path}: the connection failed`);
}

/** The error for a server that does nothing for longer than a call may take. The connection stays. */
export function silent(path: string): Errno {
  return new Errno('ETIMEDOUT', `${path}: the server is silent`);
}

/** The error for a server that breaks the protocol. */
export function broken(path: string, error: unknown): LostError {
  const { code, reason } =
    error instanceof Errno ? error : { code: 'EPROTO' as const, reason: (error as Error).message };
  return new LostError(code, `${path}: ${reason}`);
}
