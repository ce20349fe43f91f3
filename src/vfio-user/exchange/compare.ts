/** Compares a reply with the one that a capture has. docs/captures.md lists what may differ. */
import { errnoName } from '../../abi/errno.ts';
import { VFIO_USER_CAP_TWIN_SOCKET, VFIO_USER_VERSION } from '../../abi/vfio-user.ts';
import type { FdNote } from '../../linux/fd-note.ts';
import { type FieldTexts, headerOf, messageFields } from './describe.ts';

/** A reply as it is on the wire, and its descriptors. */
export interface ComparedReply {
  readonly bytes: Uint8Array;
  readonly fds: readonly FdNote[];
}

export interface ReplyDifference {
  /** A field by its name in the ABI, or `errno`, `data`, `descriptors`. */
  readonly field: string;
  readonly was: string;
  readonly is: string;
}

/** The fields that differ, of two replies to the same command. */
export function compareReplies(was: ComparedReply, is: ComparedReply): ReplyDifference[] {
  const errors = [was, is].map(({ bytes }) => headerOf(bytes).error);
  if (errors.some((error) => error !== 0)) {
    const [before, now] = errors.map((error) => (error === 0 ? 'ok' : errnoName(error)));
    return before === now ? [] : [{ field: 'errno', was: before, is: now }];
  }
  const [before, now] = [textsOf(was), textsOf(is)];
  const names = new Set([...Object.keys(before), ...Object.keys(now)]);
  return [...names]
    .map((field) => ({ field, was: String(before[field] ?? 'nothing'), is: String(now[field] ?? 'nothing') }))
    .filter((each) => each.was !== each.is);
}

/** All that is compared of a reply without an error. The payload of an error has no meaning. */
function textsOf({ bytes, fds }: ComparedReply): FieldTexts {
  const { json, ...fields } = messageFields('vfio-user', bytes, Number.POSITIVE_INFINITY);
  if (headerOf(bytes).command === VFIO_USER_VERSION) return { ...fields, ...capabilities(String(json)) };
  return { ...fields, descriptors: fds.map(({ kind }) => kind).join(' ') || 'none' };
}

/** One text for each capability, so that their order and spaces do not count. A replay asks for no twin socket. */
function capabilities(json: string): FieldTexts {
  try {
    const said = (JSON.parse(json) as { capabilities?: object }).capabilities ?? {};
    const entries = Object.entries(said).filter(([name]) => name !== VFIO_USER_CAP_TWIN_SOCKET);
    return Object.fromEntries(entries.map(([name, value]) => [`capabilities.${name}`, JSON.stringify(value)]));
  } catch {
    return { json };
  }
}
