/**
 * The state of everything that some objects reach: fields, elements, entries and bytes. `restore` puts it back in place,
 * so the objects stay the same. Variables of closures and the positions of generators are not part of it.
 */

/** Objects whose inside cannot be recorded. */
const UNKNOWN = new Set(['Generator', 'AsyncGenerator', 'Promise', 'WeakMap', 'WeakSet', 'WeakRef']);

/** The snapshot would miss a part of the state. */
export class NotKeptError extends Error {}

/** The fields of one object that are not accessors. */
interface SavedFields {
  readonly object: Record<string, unknown>;
  readonly keys: readonly string[];
  readonly values: readonly unknown[];
  /** How many keys `Object.keys` gives. */
  readonly count: number;
  readonly putBack: PutBack;
}

type PutBack = (object: Record<string, unknown>, values: readonly unknown[]) => void;

const putters = new Map<string, PutBack>();

/**
 * A function that puts the values of these fields back. Each set of keys has a function of its own, made from its text:
 * V8 then knows where the fields of its objects are. A loop over keys takes four times as long.
 */
function putterOf(keys: readonly string[]): PutBack {
  const names = keys.map((key) => JSON.stringify(key));
  const lines = names.map((name, i) => {
    const [field, value] = [`object[${name}]`, `values[${i}]`];
    return `if (${field} !== ${value} || (${value} === undefined && !(${name} in object))) ${field} = ${value};`;
  });
  const text = lines.join('\n');
  let putter = putters.get(text);
  if (putter === undefined) {
    putter = new Function('object', 'values', text) as PutBack;
    putters.set(text, putter);
  }
  return putter;
}

interface SavedBytes {
  readonly now: Uint8Array;
  readonly saved: Uint8Array;
}

interface SavedEntries<C> {
  readonly collection: C;
  readonly saved: C;
}

export class Snapshot {
  private readonly seen = new Set<object>();
  private readonly fields: SavedFields[] = [];
  private readonly arrays: SavedEntries<unknown[]>[] = [];
  private readonly bytes: SavedBytes[] = [];
  private readonly maps: SavedEntries<Map<unknown, unknown>>[] = [];
  private readonly sets: SavedEntries<Set<unknown>>[] = [];

  /** Does not enter the objects of `outside`. Throws NotKeptError for generators and other objects of hidden state. */
  constructor(roots: readonly unknown[], outside: readonly object[] = []) {
    for (const object of outside) this.seen.add(object);
    const left = [...roots];
    while (left.length > 0) {
      const value = left.pop();
      if (typeof value !== 'object' || value === null || this.seen.has(value)) continue;
      this.seen.add(value);
      for (const inside of this.record(value)) left.push(inside);
    }
    this.seen.clear();
  }

  restore(): void {
    for (const { object, keys, values, count, putBack } of this.fields) {
      putBack(object, values);
      if (Object.keys(object).length !== count) dropOthers(object, keys);
    }
    for (const { collection, saved } of this.arrays) {
      if (collection.length !== saved.length) collection.splice(0, collection.length, ...saved);
      else for (let i = 0; i < saved.length; i++) if (collection[i] !== saved[i]) collection[i] = saved[i];
    }
    for (const { now, saved } of this.bytes) now.set(saved);
    for (const { collection, saved } of this.maps) {
      if (haveSameEntries(collection, saved)) continue;
      collection.clear();
      for (const [key, value] of saved) collection.set(key, value);
    }
    for (const { collection, saved } of this.sets) {
      if (haveSameValues(collection, saved)) continue;
      collection.clear();
      for (const value of saved) collection.add(value);
    }
  }

  /** Records one object; returns what it refers to. */
  private record(object: object): readonly unknown[] {
    if (UNKNOWN.has(Object.prototype.toString.call(object).slice(8, -1))) {
      throw new NotKeptError(`${Object.prototype.toString.call(object)} cannot be put back into its state`);
    }
    if (ArrayBuffer.isView(object)) {
      const now = new Uint8Array(object.buffer, object.byteOffset, object.byteLength);
      this.bytes.push({ now, saved: now.slice() });
      return [];
    }
    if (Array.isArray(object)) {
      this.arrays.push({ collection: object, saved: [...object] });
      return object;
    }
    const inside: unknown[] = [];
    if (object instanceof Map) {
      this.maps.push({ collection: object, saved: new Map(object) });
      for (const entry of object) inside.push(...entry);
    } else if (object instanceof Set) {
      this.sets.push({ collection: object, saved: new Set(object) });
      inside.push(...object);
    }
    inside.push(...this.recordFields(object as Record<string, unknown>));
    return inside;
  }

  private recordFields(object: Record<string, unknown>): readonly unknown[] {
    const inside: unknown[] = [];
    const keys: string[] = [];
    for (const [key, { value, writable }] of Object.entries(Object.getOwnPropertyDescriptors(object))) {
      inside.push(value);
      if (writable === true) keys.push(key);
    }
    const count = Object.keys(object).length;
    if (!Object.isFrozen(object)) {
      this.fields.push({ object, keys, values: keys.map((key) => object[key]), count, putBack: putterOf(keys) });
    }
    return inside;
  }
}

/** Deletes the fields that were added since. */
function dropOthers(object: Record<string, unknown>, keys: readonly string[]): void {
  for (const key of Object.keys(object)) if (!keys.includes(key)) delete object[key];
}

/** Whether two maps have the same entries in the same order. */
function haveSameEntries(a: Map<unknown, unknown>, b: Map<unknown, unknown>): boolean {
  if (a.size !== b.size) return false;
  if (a.size === 0) return true;
  const others = b.entries();
  for (const [key, value] of a) {
    const other = others.next().value!;
    if (key !== other[0] || value !== other[1]) return false;
  }
  return true;
}

function haveSameValues(a: Set<unknown>, b: Set<unknown>): boolean {
  if (a.size !== b.size) return false;
  if (a.size === 0) return true;
  const others = b.values();
  for (const value of a) if (value !== others.next().value) return false;
  return true;
}
