import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { ERRNO, Errno, type ErrnoName } from '../abi/errno.ts';

/** Where lab/importer/barter_importer.c puts its file. */
const LAB_IMPORTER = '/sys/kernel/debug/barter/importer';

/** What the callback does with live mappings. */
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
 * One importer in the guest's kernel: at most one attachment, its mappings and fences, told what to do by commands.
 * Every method throws the errno of the kernel's own function; EBADF before `attach`.
 */
export class LabImporter {
  readonly #fd: number;
  readonly #reply = Buffer.alloc(1 << 20);
  #open = true;
  /** Of the last `map`. */
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

  /** EINVAL where an invalidate callback was faster. */
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

  /** For each callback since the last call: how many mappings were live. */
  callbacks(): number[] {
    return (this.#ask('callbacks') as { callbacks: number[] }).callbacks;
  }

  /** For each callback since the last call: its number among those of all importers. */
  callbackOrder(): number[] {
    return (this.#ask('order') as { order: number[] }).order;
  }

  /**
   * A pattern of `length` bytes (at most 4 MiB), copied into a mapping by the device's DMA engine. ENODEV without
   * one.
   */
  fill(map: number, offset: number, length: number, seed: number): void {
    this.#say(`fill ${map} ${offset} ${length} ${seed}`);
  }

  /** The CRC-32 of bytes that the device's DMA engine copied out of a mapping. */
  checksum(map: number, offset: number, length: number): number {
    return (this.#ask(`sum ${map} ${offset} ${length}`) as { crc32: number }).crc32;
  }

  /** As `fill`, but returns while the copy is under way; `collect` waits for its end. */
  submit(map: number, offset: number, length: number, seed: number): void {
    this.#say(`submit ${map} ${offset} ${length} ${seed}`);
  }

  /** How the copy of `submit` ended: what the engine's driver reported, and how many parts of how many were done. */
  collect(): LabCopy {
    return this.#ask('collect') as LabCopy;
  }

  /** As a broken driver might: the pattern to a bus address, be it mapped or not. EIO where the engine fails. */
  raw(address: number, length: number, seed: number): void {
    this.#say(`raw 0x${address.toString(16)} ${length} ${seed}`);
  }

  /**
   * Has a device's DMA engine copy inside of memory that holds a pattern, and looks at every byte of it; returns how
   * many are wrong. Needs no attachment.
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

  /** Signals what is not signalled, unmaps, detaches. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  #say(command: string): void {
    // The number may be another importer's by now.
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

/** Node names some errnos as libuv does (ENOTSUP for EOPNOTSUPP): the number decides. */
function asErrno(error: NodeJS.ErrnoException, command: string): Error {
  const verb = `the importer's ${command.split(' ')[0]}`;
  if (error.errno === undefined) return error;
  const code = Math.abs(error.errno);
  const known = Object.values(ERRNO).includes(code as (typeof ERRNO)[ErrnoName]);
  return known ? Errno.fromCode(code, verb) : new Error(`${verb}: ${getSystemErrorName(error.errno)}`);
}
