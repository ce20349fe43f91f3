/** Compares the results of a guest's vfio-pci with the engine's, and reports the bits that QEMU keeps for itself. */
import { capabilityName } from '../../src/machine/capability-names.ts';
import type { ConfigAnswers } from '../agent/config-accesses.ts';
import type { Steps } from '../runs/run.ts';
import { type Access, type Answers, answersOfEngine, type Laid, type PlacedCapability } from './accesses.ts';

/** How many differences a step shows. */
const MAX_TOLD = 4;

/** One step for each capability: whether both show it, and the accesses with different results. */
export function compareDevice(steps: Steps, laid: Laid, accesses: readonly Access[], guest: ConfigAnswers): void {
  const engine = answersOfEngine(guest, accesses);
  const hardware = Buffer.from(guest.opened, 'hex');
  const [first] = [
    ...differences(accesses, engine, guest.answers, 0, 0x40),
    ...differences(accesses, engine, guest.answers, hardware.length, Number.MAX_SAFE_INTEGER),
  ];
  steps.compare('the header, and the end of config space', undefined, first);
  const lists = [engine, guest.answers].map((answers) => shownIn(accesses, answers));
  for (const capability of laid.capabilities) {
    const { id, extended, start, end } = capability;
    const name = `${extended ? 'extended ' : ''}0x${id.toString(16).padStart(2, '0')} ${capabilityName(id, extended)}`;
    const key = keyOf(extended, start);
    const [expected, seen] = lists.map((list) => list.has(key));
    const differs = differences(accesses, engine, guest.answers, start, end);
    const count = accesses.filter(([offset]) => offset >= start && offset < end).length;
    const qemu = heldByQemu(laid, capability, guest, hardware);
    steps.compare(
      `${name}: ${count} accesses${qemu === '' ? '' : `; QEMU stands between: ${qemu}`}`,
      { list: expected ? 'shown' : 'hidden', differs: [] },
      { list: seen ? 'shown' : 'hidden', differs: differs.slice(0, MAX_TOLD) },
    );
  }
}

/** The accesses in a range whose results differ between the guest's kernel and the engine. */
function differences(
  accesses: readonly Access[],
  engine: Answers,
  guest: Answers,
  start: number,
  end: number,
): string[] {
  const told: string[] = [];
  for (const [i, [offset, size, value]] of accesses.entries()) {
    if (offset < start || offset >= end || engine[i] === guest[i]) continue;
    const what = value === null ? 'read' : `write of 0x${value.toString(16)}`;
    told.push(`${what} of ${size} at 0x${offset.toString(16)}: guest ${show(guest[i])}, engine ${show(engine[i])}`);
  }
  return told;
}

function show(answer: Answers[number]): string {
  return typeof answer === 'number' ? `0x${answer.toString(16)}` : String(answer);
}

const keyOf = (extended: boolean, at: number): string => `${extended ? 'extended ' : ''}${at}`;

/**
 * The capabilities in the user's lists, followed through the reads of dwords at the start. Ids of 0 are placeholders.
 */
function shownIn(accesses: readonly Access[], answers: Answers): Set<string> {
  const dwords = new Map<number, number>();
  for (const [i, [offset, size, value]] of accesses.entries()) {
    const answer = answers[i];
    const isFirst = value === null && (size === 4 || offset === 0x34) && !dwords.has(offset);
    if (isFirst && typeof answer === 'number') dwords.set(offset, answer);
  }
  const shown = new Set<string>();
  for (let at = dwords.get(0x34) ?? 0; at >= 0x40 && !shown.has(keyOf(false, at)); ) {
    shown.add(keyOf(false, at));
    at = ((dwords.get(at) ?? 0) >>> 8) & 0xfc;
  }
  for (let at = 0x100; at >= 0x100 && dwords.has(at) && dwords.get(at) !== 0; ) {
    const header = dwords.get(at)!;
    if ((header & 0xffff) !== 0) shown.add(keyOf(true, at));
    const next = (header >>> 20) & 0xffc;
    if (next <= at) break;
    at = next;
  }
  return shown;
}

/** The registers in which QEMU's device in the guest differs from the served device. */
function heldByQemu(
  { config, skip }: Laid,
  { id, extended, start, end }: PlacedCapability,
  guest: ConfigAnswers,
  hardware: Buffer,
): string {
  if (hardware.length <= start) return 'no such register in the guest';
  const shownId = extended ? hardware.readUInt32LE(start) & 0xffff : hardware[start];
  if (shownId !== id) return `it shows id 0x${shownId.toString(16)} there`;
  if (skip.includes(start)) return 'the vectors are enabled and masked by it';
  // The flag of VPD changes by itself.
  if (id === 0x03 && !extended) return '';
  const [ones, zeros] = [guest.ones, guest.zeros].map((hex) => Buffer.from(hex, 'hex'));
  const bytes: number[] = [];
  for (let at = start; at < end; at++) {
    const before = config.read(at, 1);
    config.write(at, 1, 0xff);
    const set = config.read(at, 1);
    config.write(at, 1, 0);
    const cleared = config.read(at, 1);
    config.set(at, 1, before);
    if ((set & ~cleared) !== (ones[at] & ~zeros[at])) bytes.push(at - start);
  }
  return bytes.length === 0 ? '' : `writes of ${bytes.length} bytes, from +0x${bytes[0].toString(16)} on`;
}
