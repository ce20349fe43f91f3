/** Transcripts of a connection as text: every message byte for byte, with its descriptors. */
import { fstatSync, readlinkSync } from 'node:fs';
import { VFIO_USER_COMMAND_NAMES, VFIO_USER_F_NO_REPLY } from '../../src/abi/vfio-user.ts';

export interface Said {
  bytes: Buffer;
  /** `memfd 4096`, `eventfd`, ... */
  fds: string[];
}

/** A command and its reply; a posted command has none. */
export interface RecordedExchange {
  command: Said;
  reply: Said | null;
}

const LINE_BYTES = 32;

/** Describes a descriptor well enough for a test to make another of its kind. */
export function kindOf(fd: number): string {
  const target = readlinkSync(`/proc/self/fd/${fd}`);
  if (target.startsWith('/memfd:')) return `memfd ${fstatSync(fd).size}`;
  if (target === 'anon_inode:[eventfd]') return 'eventfd';
  return target.split(':')[0];
}

export function isPosted(bytes: Buffer): boolean {
  return (bytes.readUInt32LE(8) & VFIO_USER_F_NO_REPLY) !== 0;
}

function textOf(arrow: string, { bytes, fds }: Said): string {
  const command = bytes.readUInt16LE(2);
  const name = VFIO_USER_COMMAND_NAMES.get(command) ?? `command ${command}`;
  const head = [arrow, name, `${bytes.length} bytes`, ...fds.map((fd) => `[${fd}]`)].join(' ');
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += LINE_BYTES) {
    lines.push(`  ${bytes.subarray(at, at + LINE_BYTES).toString('hex')}`);
  }
  return [head, ...lines].join('\n');
}

export function formatTranscript(title: string, exchanges: readonly RecordedExchange[]): string {
  const parts = exchanges.map(({ command, reply }) =>
    [textOf('>', command), ...(reply === null ? [] : [textOf('<', reply)])].join('\n'),
  );
  return `# ${title}\n${parts.join('\n')}\n`;
}

export function parseTranscript(text: string): RecordedExchange[] {
  const exchanges: RecordedExchange[] = [];
  let said: Said | null = null;
  for (const line of text.split('\n')) {
    if (line.startsWith('#') || line === '') continue;
    if (line.startsWith('  ')) {
      said!.bytes = Buffer.concat([said!.bytes, Buffer.from(line.trim(), 'hex')]);
      continue;
    }
    said = { bytes: Buffer.alloc(0), fds: [...line.matchAll(/\[([^\]]*)\]/g)].map((match) => match[1]) };
    if (line.startsWith('>')) exchanges.push({ command: said, reply: null });
    else exchanges.at(-1)!.reply = said;
  }
  return exchanges;
}
