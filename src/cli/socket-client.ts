/** The connection of a command to any vfio-user server, with its errors in words. */
import { existsSync } from 'node:fs';
import { Errno } from '../abi/errno.ts';
import { isSocket } from '../linux/is-socket.ts';
import { VfioUserClient } from '../vfio-user/client/client.ts';
import { LostError } from '../vfio-user/client/lost.ts';
import { UsageError } from './usage.ts';

/** How long a server may take for one reply. */
const TIMEOUT_MS = 5000;

/** Connects, calls `body`, and leaves when the device is closed. UsageError where nobody serves a device there. */
export function withSocket<T>(path: string, body: (client: VfioUserClient) => T): T {
  const client = connect(path);
  try {
    return body(client);
  } catch (error) {
    throw error instanceof LostError ? new Errno(error.code, `${error.reason}; its own log says why`) : error;
  } finally {
    client.close();
  }
}

/** UsageError where a path is not a socket. */
export function demandSocket(path: string): void {
  if (isSocket(path)) return;
  if (!existsSync(path)) throw new UsageError(`${path}: there is no such socket; start the server that makes it`);
  throw new UsageError(`${path}: this is not a socket; name the one that a server listens on`);
}

function connect(path: string): VfioUserClient {
  demandSocket(path);
  try {
    return new VfioUserClient(path, { timeoutMs: TIMEOUT_MS });
  } catch (error) {
    throw error instanceof Errno ? reasonFor(path, error) : error;
  }
}

function reasonFor(path: string, error: Errno): Error {
  switch (error.code) {
    case 'ECONNREFUSED':
      return new UsageError(`${path}: no server listens there any more; start it again`);
    case 'EACCES':
    case 'EPERM':
      return new UsageError(`${path}: this user may not connect (${error.code}); run as the user of the server`);
    case 'EBUSY':
      return new UsageError(`${path}: another client has the device; end that one first`);
    case 'ETIMEDOUT':
      return new Errno(
        error.code,
        `${path}: the server does not answer within ${TIMEOUT_MS / 1000} s; it may have a client`,
      );
    default:
      return new Errno(error.code, `${error.reason}; is it a vfio-user server?`);
  }
}
