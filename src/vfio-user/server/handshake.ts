/** VERSION: the first command of a client, which opens the device and makes the session. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_USER_VERSION } from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { tokenToOpen } from '../../vfio/token.ts';
import type { Connection } from '../wire/connection.ts';
import type { Frame } from '../wire/frame.ts';
import { decodeVersion, encodeVersion, type VersionOffer } from '../wire/version.ts';
import type { Reply } from './reply.ts';
import { Session } from './session.ts';
import type { Client, SessionHost } from './session-host.ts';

/** The index of the twin socket in the descriptors of the reply. */
const TWIN_FD_INDEX = 0;

/**
 * Serves the first command. EPROTO for any command other than VERSION, EBUSY while another client has the device, else
 * the errors of `decodeVersion` and of the device's open.
 */
export function* agree(
  host: SessionHost,
  client: Client,
  vdev: VfioPciCoreDevice,
  main: Connection,
  frame: Frame,
  reply: Reply,
): Task<Session> {
  if (frame.command !== VFIO_USER_VERSION) throw new Errno('EPROTO', `command ${frame.command} before VERSION`);
  const capabilities = decodeVersion(frame.payload);
  yield* host.claim(client);
  yield* vdev.open(tokenToOpen(vdev));
  const session = new Session(host, client, vdev, main, capabilities);
  try {
    yield* session.start();
    const offer: VersionOffer = {
      maxDmaMaps: capabilities.maxDmaMaps,
      writeMultiple: capabilities.writeMultiple,
      migration: capabilities.migration !== null && vdev.migration !== null,
      twinSocket: false,
    };
    if (capabilities.twinSocket && capabilities.maxMsgFds > 0) {
      reply.attach(session.openTwin());
      offer.twinSocket = TWIN_FD_INDEX;
    }
    reply.append(encodeVersion(offer));
    return session;
  } catch (error) {
    session.close();
    yield* session.end();
    throw error;
  }
}
