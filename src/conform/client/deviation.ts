/** One way in which a server differs from a plain one, and whether a client must bear it. */
import { VFIO_USER_F_ERROR, VFIO_USER_F_TYPE_REPLY } from '../../abi/vfio-user.ts';
import { messageBytes } from '../peer.ts';
import type { RightReply, ShownDevice } from './device.ts';

/** The groups, in the order of a report. */
export const CLIENT_GROUPS = {
  time: 'late and silent',
  stream: 'parts and order',
  size: 'wrong sizes',
  limit: 'limits and VERSION',
  region: 'regions and capabilities',
  device: 'device and interrupts',
  refusal: 'refused commands',
  end: 'disconnects',
} as const;
export type ClientGroup = keyof typeof CLIENT_GROUPS;

/** Bytes for the client after a time, or the end of the connection. */
export interface Outgoing {
  bytes: Buffer;
  fds?: readonly number[];
  afterMs?: number;
  /** Ends the connection when the bytes are sent. */
  ends?: true;
  /** Lets the replies to later commands go first, where some come soon. */
  yields?: true;
}

export interface ClientDeviation {
  id: string;
  group: ClientGroup;
  says: string;
  chapter: string;
  /** Whether the protocol allows it: a client that refuses it is at fault. Any client must survive the rest. */
  isLawful: boolean;
  /** The command that it is about; null for every one. A client that never sends it is not judged. */
  command: number | null;
  /** Changes the device before the client connects. */
  device?: (device: ShownDevice) => void;
  /** A client that never has two commands under way is not judged. */
  reorders?: true;
  /** What goes out in place of a right reply to `command`. */
  reply?: (right: RightReply, earlier: number) => Outgoing[];
}

export function replyBytes({ command, id, errno, payload }: RightReply, size?: number): Buffer {
  const flags = VFIO_USER_F_TYPE_REPLY | (errno === 0 ? 0 : VFIO_USER_F_ERROR);
  return messageBytes(command, payload, { id, flags, error: errno, ...(size === undefined ? {} : { size }) });
}

/** Returns a function that declares deviations of one group. */
export function deviationsOf(group: ClientGroup, chapter: string, isLawful: boolean) {
  return (
    name: string,
    says: string,
    command: number | null,
    change: Pick<ClientDeviation, 'device' | 'reply' | 'reorders'>,
  ): ClientDeviation => ({ id: `${group}.${name}`, group, says, chapter, isLawful, command, ...change });
}
