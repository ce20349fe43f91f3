/** The fields of a message, for people: what a trace or a comparison shows of its bytes. */
import { BytesField, type Fields, U64Field, viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature,
} from '../../abi/vfio-feature.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
  vfio_user_header,
} from '../../abi/vfio-user.ts';
import type { SocketKind } from '../wire/tap.ts';
import { type AnyStruct, FEATURES, layoutsOf } from './layouts.ts';

/** Values by the names of the ABI. Addresses, offsets and flags are hexadecimal text. */
export type FieldTexts = Readonly<Record<string, string | number>>;

export interface MessageHeader {
  id: number;
  command: number;
  isReply: boolean;
  noReply: boolean;
  /** Positive; 0 for a success. */
  error: number;
}

/** Fields that are not shown: a size that the message has anyway, and padding. */
const SILENT = new Set(['argsz', 'reserved', 'padding']);
/** Names of fields whose values are shown in hexadecimal. */
export const HEXADECIMAL = /^(flags|addr|address|offset|iova|size|length|open_flags|datamatch|cap_offset)$/;
/** Bytes of data that are shown. */
const SHOWN_BYTES = 16;

export function headerOf(bytes: Uint8Array): MessageHeader {
  const view = viewOf(bytes);
  const { msg_id, cmd, flags: flagsField, error_no } = vfio_user_header.fields;
  const flags = flagsField.get(view);
  return {
    id: msg_id.get(view),
    command: cmd.get(view),
    isReply: (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY,
    noReply: (flags & VFIO_USER_F_NO_REPLY) !== 0,
    error: (flags & VFIO_USER_F_ERROR) === 0 ? 0 : error_no.get(view),
  };
}

/** The command's name without its prefix; that of a DEVICE_FEATURE says which feature, and what is asked of it. */
export function messageName(kind: SocketKind, bytes: Uint8Array): string {
  const { command } = headerOf(bytes);
  const name = layoutsOf(kind).get(command)?.name ?? `command ${command}`;
  const feature = kind === 'dma-buf' ? null : featureOf(bytes);
  return feature === null ? name : `${name} ${feature}`;
}

/**
 * The fields of the payload, as far as it has them. An error reply has none. Of data, the first `shownBytes` are in the
 * text.
 */
export function messageFields(kind: SocketKind, bytes: Uint8Array, shownBytes = SHOWN_BYTES): FieldTexts {
  const { command, isReply } = headerOf(bytes);
  const layout = layoutsOf(kind).get(command);
  if (layout === undefined) return {};
  const payload = bytes.subarray(VFIO_USER_HEADER_SIZE);
  const head = isReply ? layout.reply : layout.request;
  if (payload.length < head.sizeof) return {};
  const rest = payload.subarray(head.sizeof);
  if (kind !== 'dma-buf' && command === VFIO_USER_DEVICE_FEATURE) return featureFields(payload, rest, shownBytes);
  const fields = fieldsOf(head, payload, shownBytes);
  if (rest.length === 0 || layout.rest === 'nothing') return fields;
  if (layout.rest === 'text') return { ...fields, json: Buffer.from(rest).toString('utf8').replace(/\0$/, '') };
  return { ...fields, data: dataText(rest, shownBytes) };
}

/** SET DMA_BUF, PROBE feature 99, ...; null for a message that is not about a feature. */
function featureOf(bytes: Uint8Array): string | null {
  const { command } = headerOf(bytes);
  const asked = command === VFIO_USER_DEVICE_FEATURE ? askedFeature(bytes.subarray(VFIO_USER_HEADER_SIZE)) : null;
  if (asked === null) return null;
  const { name, isProbe, verbs } = asked;
  return [...(isProbe ? ['PROBE'] : []), ...verbs, name].join(' ');
}

/** The feature that the payload of a DEVICE_FEATURE names, and what it asks. Null for a payload that is too short. */
export function askedFeature(payload: Uint8Array): { name: string; isProbe: boolean; verbs: string[] } | null {
  if (payload.length < vfio_device_feature.sizeof) return null;
  const flags = vfio_device_feature.fields.flags.get(viewOf(payload));
  const number = flags & VFIO_DEVICE_FEATURE_MASK;
  return {
    name: FEATURES.get(number)?.name ?? `feature ${number}`,
    isProbe: (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0,
    verbs: [
      ...((flags & VFIO_DEVICE_FEATURE_GET) === 0 ? [] : ['GET']),
      ...((flags & VFIO_DEVICE_FEATURE_SET) === 0 ? [] : ['SET']),
    ],
  };
}

function featureFields(payload: Uint8Array, rest: Uint8Array, shownBytes: number): FieldTexts {
  const flags = vfio_device_feature.fields.flags.get(viewOf(payload));
  const feature = FEATURES.get(flags & VFIO_DEVICE_FEATURE_MASK);
  if (feature === undefined || rest.length < feature.payload.sizeof) return {};
  const behind = rest.subarray(feature.payload.sizeof);
  const fields = fieldsOf(feature.payload, rest, shownBytes);
  return { ...fields, ...(behind.length === 0 ? {} : { data: dataText(behind, shownBytes) }) };
}

function fieldsOf(struct: AnyStruct, payload: Uint8Array, shownBytes: number): FieldTexts {
  const view = viewOf(payload);
  return Object.fromEntries(
    Object.entries<Fields[string]>(struct.fields)
      .filter(([name]) => !SILENT.has(name))
      .map(([name, field]) => {
        if (field instanceof BytesField) return [name, dataText(field.get(view), shownBytes)];
        const value = field instanceof U64Field ? field.getBig(view) : field.get(view);
        return [name, HEXADECIMAL.test(name) ? `0x${value.toString(16)}` : Number(value)];
      }),
  );
}

function dataText(bytes: Uint8Array, shownBytes: number): string {
  const shown = Buffer.from(bytes.subarray(0, shownBytes)).toString('hex');
  return bytes.length > shownBytes ? `${shown}... (${bytes.length} bytes)` : shown;
}
