/** The JSON of VERSION. Its numbers may have 64 bits: masks, and limits that mean "none". */
import { Errno } from '../../abi/errno.ts';

/** Matches strings, and integers outside of them. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
const INTEGER = /^(?:0|[1-9]\d*)$/;
/** Marks a string that was an integer. The text ends at its first zero byte, and may not have an escaped one. */
const MARK = '\\u0000';

/** What the peer's text may have, and a line of an error or of a log may not. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}]/gu;

export type JsonObject = Record<string, unknown>;

/**
 * Parses the text to an object with every integer as a bigint: as a number, 2^64 - 1 would be 2^64. EINVAL where the
 * text is not the JSON of an object.
 */
export function parseVersionJson(text: string): JsonObject {
  if (text.includes(MARK)) throw new Errno('EINVAL', 'VERSION: a zero byte in the JSON');
  let json: unknown;
  try {
    const marked = text.replace(TOKEN, (token) => (INTEGER.test(token) ? `"${MARK}${token}"` : token));
    json = JSON.parse(marked, (_, value) =>
      typeof value === 'string' && value.startsWith('\0') ? BigInt(value.slice(1)) : value,
    );
  } catch (error) {
    throw new Errno('EINVAL', `VERSION: not JSON: ${printable((error as Error).message.replaceAll(MARK, ''))}`);
  }
  if (!isObject(json)) throw new Errno('EINVAL', 'VERSION: the JSON is not an object');
  return json;
}

/** A whole number from 0 on, of any size. EINVAL for anything else. */
export function integerOf(said: JsonObject, key: string, otherwise: number): bigint {
  const value = said[key] ?? BigInt(otherwise);
  if (typeof value === 'bigint') return value;
  // 1e6 and 4096.0 are whole numbers as well.
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw new Errno('EINVAL', `VERSION: ${key} is ${printable(JSON.stringify(value))}, wants a whole number from 0 on`);
}

/** As `integerOf`; larger numbers count as `most`. */
export function limitOf(said: JsonObject, key: string, otherwise: number, most: number): number {
  const value = integerOf(said, key, otherwise);
  return value < BigInt(most) ? Number(value) : most;
}

export function booleanOf(said: JsonObject, key: string): boolean {
  const value = said[key] ?? false;
  if (typeof value !== 'boolean') throw new Errno('EINVAL', `VERSION: ${key} is not a boolean`);
  return value;
}

/** Null where the key is missing. */
export function objectOf(said: JsonObject, key: string): JsonObject | null {
  const value = said[key] ?? null;
  if (value !== null && !isObject(value)) throw new Errno('EINVAL', `VERSION: ${key} is not an object`);
  return value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, '?');
}
