/**
 * Config space as text: pairs of hexadecimal digits, or a dump of lspci -x, -xxx or -xxxx, with or without its header
 * line and offsets.
 */

/** A line of the text that cannot be parsed. */
export class ConfigTextError extends Error {
  /** The line's number, from 0 on. */
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.name = 'ConfigTextError';
    this.line = line;
  }
}

/** "01:00.0 VGA compatible controller: ...", with or without a domain. */
export const LSPCI_HEADER = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?:\s+(.*))?$/i;
/** "a0: 10 00 02 00", with or without the offset. Vital product data go on past 0xfff. */
const BYTES = /^\s*(?:([0-9a-f]{2,4}):\s*)?((?:[0-9a-f]{2}\s*)*)$/i;

/** Whether the line could be one of lspci's hex dump: an offset, and bytes. */
export function isDumpLine(line: string): boolean {
  return /^\s*[0-9a-f]{2,3}:(\s+[0-9a-f]{2})+\s*$/i.test(line);
}

/** Splits text with any line ends, and takes away what a mail puts before a quoted line. */
export function textLines(text: string): string[] {
  return text.split(/\r\n|\n|\r/).map((line) => line.replace(/^(?:>[ \t]?)+/, ''));
}

/** Whether a line is meant as bytes, even if it has other characters. */
const LIKE_BYTES = /^\s*(?:0x)?(?:[0-9a-f]{2}(?:\s|$)|\w{1,4}:\s*\w\w\b)/i;

/**
 * Returns the bytes. Skips what lspci -v and -k print around a dump that has a header or offsets. ConfigTextError for
 * other lines, for offsets that leave bytes out, and for a second device.
 */
export function parseConfigText(text: string): Uint8Array {
  const bytes: number[] = [];
  let hasHeader = false;
  let hasOffsets = false;
  for (const [i, line] of textLines(text).entries()) {
    if (LSPCI_HEADER.test(line.trim())) {
      if (hasHeader || bytes.length > 0) throw new ConfigTextError(i, 'a second device begins here; give each its own');
      hasHeader = true;
      continue;
    }
    const match = BYTES.exec(line);
    if (match === null) {
      const isBefore = hasHeader && bytes.length === 0;
      if (isBefore || ((hasHeader || hasOffsets) && !LIKE_BYTES.test(line))) continue;
      throw new ConfigTextError(i, `${JSON.stringify(line.trim().slice(0, 40))} is not pairs of hexadecimal digits`);
    }
    const [, offset, digits] = match;
    if (offset !== undefined && Number.parseInt(offset, 16) !== bytes.length) {
      const expected = bytes.length.toString(16).padStart(2, '0');
      throw new ConfigTextError(i, `the dump goes on at ${offset}, where ${expected} would come next`);
    }
    hasOffsets ||= offset !== undefined;
    bytes.push(...Buffer.from(digits.replace(/\s+/g, ''), 'hex'));
  }
  return Uint8Array.from(bytes);
}

/** Returns lines of 16 bytes, with offsets as lspci writes them. */
export function formatConfigText(config: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < config.length; at += 16) {
    const digits = Buffer.from(config.subarray(at, at + 16)).toString('hex');
    lines.push(`${at.toString(16).padStart(2, '0')}: ${digits.replace(/../g, '$& ').trimEnd()}`);
  }
  return `${lines.join('\n')}\n`;
}
