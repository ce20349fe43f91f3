import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { ERRNO, Errno, type ErrnoName } from '../abi/errno.ts';

/** The debugfs file of lab/importer/barter_importer.c. */
const LAB_IMPORTER = '/sys/kernel/debug/barter/importer';

/** The callback's action on live mappings. */
type OnInvalidate = 'unmap' | 'keep' | 'remap';

export interface LabSegment {
  address: number;
  sizeBytes: number;
}

export interface LabCopy {
  result: 'done' | 'read-failed' | 'write-failed' | 'aborted';
  parts: number;
  of: number;
}

/**
 * One importer in the guest's kernel: at most one attachment, its mappings and fences, controlled by commands. Every
 * method throws the errno of the kernel's own function; EBADF before `attach`.
 */
export class LabImporter {
  readonly #fd: number;
  readonly #reply = Buffer.alloc(1 << 20);
  #open = true;
  /** The segments of the last `map`. */
  segments: readonly LabSegment[] = [];

  /** ENOENT where the module is not loaded. */
  constructor(path = LAB_IMPORTER) {
    this.#fd = openSync(path, 'r+');
  }

  attach(
    fd: number,
    bdf: string,
    kind: 'dynamic' | 'static' | 'no-p2p' | 'no-callback',
    onInvalidate: OnInvalidate,
    dmaBits: 32 | 64 = 64,
  ): void {
    this.#say(`attach ${fd} ${bdf} ${kind} ${onInvalidate} ${dmaBits}`);
  }

  map(): { id: number; segments: readonly LabSegment[] } {
    const { map, segments } = this.#ask('map') as { map: number; segments: [string, number][] };
    this.segments = segments.map(([address, sizeBytes]) => ({ address: Number(address), sizeBytes }));
    return { id: map, segments: this.segments };
  }

  /** EINVAL where an invalidate callback came first. */
  unmap(id: number): void {
    this.#say(`unmap ${id}`);
  }

  detach(): void {
    this.#say('detach');
  }

  pin(): void {
    this.#say('pin');
  }

  unpin(): void {
    this.#say('unpin');
  }

  addFence(usage: 'kernel' | 'write' | 'read' | 'bookkeep'): number {
    return (this.#ask(`fence ${usage}`) as { fence: number }).fence;
  }

  signal(fence: number): void {
    this.#say(`signal ${fence}`);
  }

  /** Returns the number of live mappings at each callback since the last call. */
  callbacks(): number[] {
    return (this.#ask('callbacks') as { callbacks: number[] }).callbacks;
  }

  /** Returns the number of each callback since the last call, counted over all importers. */
  callbackOrder(): number[] {
    return (this.#ask('order') as { order: number[] }).order;
  }

  /**
   * Has the device's DMA engine copy a pattern of `length` bytes (at most 4 MiB) into a mapping. ENODEV without an
   * engine.
   */
  fill(map: number, offset: number, length: number, seed: number): void {
    this.#say(`fill ${map} ${offset} ${length} ${seed}`);
  }

  /** Returns the CRC-32 of bytes that the device's DMA engine copied out of a mapping. */
  checksum(map: number, offset: number, length: number): number {
    return (this.#ask(`sum ${map} ${offset} ${length}`) as { crc32: number }).crc32;
  }

  /** As `fill`, but returns while the copy is under way; `collect` waits for its end. */
  submit(map: number, offset: number, length: number, seed: number): void {
    this.#say(`submit ${map} ${offset} ${length} ${seed}`);
  }

  /** Returns how the copy of `submit` ended: the engine driver's report, and how many of its parts were done. */
  collect(): LabCopy {
    return this.#ask('collect') as LabCopy;
  }

  /** Writes the pattern to a bus address, mapped or not, as a broken driver might. EIO where the engine fails. */
  raw(address: number, length: number, seed: number): void {
    this.#say(`raw 0x${address.toString(16)} ${length} ${seed}`);
  }

  /**
   * Has a device's DMA engine copy inside memory that holds a pattern, and checks every byte. Returns the number of
   * wrong bytes. Needs no attachment.
   */
  memcpy(bdf: string, from: number, to: number, length: number, seed: number): number {
    return (this.#ask(`memcpy ${bdf} ${from} ${to} ${length} ${seed}`) as { wrong: number }).wrong;
  }

  write(map: number, offset: number, bytes: Uint8Array): void {
    this.#say(`poke ${map} ${offset} ${Buffer.from(bytes).toString('hex')}`);
  }

  read(map: number, offset: number, length: number): Buffer {
    return Buffer.from((this.#ask(`peek ${map} ${offset} ${length}`) as { bytes: string }).bytes, 'hex');
  }

  /** Signals the pending fences, unmaps and detaches. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  #say(command: string): void {
    // Another importer may have the number by now.
    if (!this.#open) throw new Errno('EBADF', `the importer is closed: ${command}`);
    try {
      writeSync(this.#fd, command);
    } catch (error) {
      throw asErrno(error as NodeJS.ErrnoException, command);
    }
  }

  #ask(command: string): unknown {
    this.#say(command);
    const length = readSync(this.#fd, this.#reply);
    return JSON.parse(this.#reply.toString('utf8', 0, length));
  }
}

/** Node names some errnos as libuv does (ENOTSUP for EOPNOTSUPP), so this goes by the number. */
function asErrno(error: NodeJS.ErrnoException, command: string): Error {
  const verb = `the importer's ${command.split(' ')[0]}`;
  if (error.errno === undefined) return error;
  const code = Math.abs(error.errno);
  const known = Object.values(ERRNO).includes(code as (typeof ERRNO)[ErrnoName]);
  return known ? Errno.fromCode(code, verb) : new Error(`${verb}: ${getSystemErrorName(error.errno)}`);
}
