/** The client's side of VERSION: both sides' limits, and the twin socket. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { VFIO_USER_MINOR, vfio_user_version } from '../../abi/vfio-user.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { isUnixStreamSocket } from '../../linux/socket.ts';
import { type Capabilities, decodeVersion } from '../wire/version.ts';
import type { Answer } from './exchange.ts';

export interface Agreement {
  capabilities: Capabilities;
  /** The socket for the server's commands, where both sides want one. */
  twin: OwnedFd | null;
}

/** Reads the reply to VERSION, and closes its other descriptors. EPROTO where it contradicts itself or the request. */
export function agree(path: string, answer: Answer, askedForTwin: boolean): Agreement {
  try {
    const capabilities = capabilitiesOf(answer.payload);
    const twin = capabilities.twinSocket ? twinOf(path, askedForTwin, capabilities, answer.fds) : null;
    return { capabilities, twin };
  } finally {
    closeAll(answer.fds);
  }
}

/** EPROTO for a reply that is not a VERSION: the server's fault, unlike the EINVAL of a request. */
function capabilitiesOf(payload: Buffer): Capabilities {
  let capabilities: Capabilities;
  try {
    capabilities = decodeVersion(payload);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    throw new Errno('EPROTO', error.reason);
  }
  const minor = vfio_user_version.fields.minor.get(viewOf(payload));
  if (minor > VFIO_USER_MINOR) throw new Errno('EPROTO', `VERSION: 0.${minor} in reply to 0.${VFIO_USER_MINOR}`);
  return capabilities;
}

function twinOf(path: string, asked: boolean, { twinFdIndex }: Capabilities, fds: readonly OwnedFd[]): OwnedFd {
  const fd = twinFdIndex === null ? undefined : fds[twinFdIndex];
  if (!asked || fd === undefined) {
    const why = asked ? `descriptor ${twinFdIndex} of ${fds.length}` : 'nobody asked for it';
    throw new Errno('EPROTO', `VERSION: a twin socket, and ${why}`);
  }
  if (!isUnixStreamSocket(fd.fd)) throw new Errno('EPROTO', 'VERSION: the twin socket is not a stream socket');
  return fd.duplicate(`twin socket of ${path}`);
}
