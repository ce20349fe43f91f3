/** Short texts of values, for timelines and errors. */

/** The most characters of a value in a line of a timeline. */
const MAX_LENGTH = 60;
const MAX_DEPTH = 3;
const MAX_ENTRIES = 6;

/** The value as people write it: containers by their content, instances by their label or class. */
export function inWords(value: unknown): string {
  const words = wordsOf(value, MAX_DEPTH);
  return words.length <= MAX_LENGTH ? words : `${words.slice(0, MAX_LENGTH - 3)}...`;
}

function wordsOf(value: unknown, depth: number): string {
  // A string at the top level is shown without quotes.
  if (typeof value === 'string') return depth === MAX_DEPTH ? value : JSON.stringify(value);
  if (typeof value === 'function') return value.name === '' ? 'a function' : `${value.name}()`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (value instanceof Date) return value.toISOString();
  const { label } = value as { label?: unknown };
  if (typeof label === 'string' && !isPlainObject(value)) return label;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (depth === 0) return '...';
  const list = (values: Iterable<unknown>): string => first(values, (one) => wordsOf(one, depth - 1));
  const pairs = (entries: Iterable<readonly [unknown, unknown]>): string =>
    first(entries, ([key, one]) => `${keyOf(key)}: ${wordsOf(one, depth - 1)}`);
  if (Array.isArray(value)) return `[${list(value)}]`;
  if (value instanceof Set) return `{${list(value)}}`;
  if (value instanceof Map) return `{${pairs(value)}}`;
  if (isPlainObject(value)) return `{${pairs(Object.entries(value))}}`;
  // A class with its own toString is written by it.
  if (value.toString !== Object.prototype.toString) return String(value);
  return `${value.constructor.name} {${pairs(Object.entries(value))}}`;
}

/** The first few of many values. */
function first<T>(values: Iterable<T>, words: (value: T) => string): string {
  const shown: string[] = [];
  for (const value of values) {
    if (shown.length === MAX_ENTRIES) return `${shown.join(', ')}, ...`;
    shown.push(words(value));
  }
  return shown.join(', ');
}

function keyOf(key: unknown): string {
  return typeof key === 'string' ? key : wordsOf(key, 1);
}

function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
