/**
 * Config space as text: pairs of hexadecimal digits, or a dump as lspci -x, -xxx and -xxxx print it, with its header
 * line and its offsets or without them.
 */

/** A line of the text that cannot be read. */
export class ConfigTextError extends Error {
  /** From 0 on. */
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.name = 'ConfigTextError';
    this.line = line;
  }
}

/** "01:00.0 VGA compatible controller: ...", with a domain or without. */
export const LSPCI_HEADER = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?:\s+(.*))?$/i;
/** "a0: 10 00 02 00", the offset being left out at times. */
const BYTES = /^\s*(?:([0-9a-f]{2,3}):\s*)?((?:[0-9a-f]{2}\s*)*)$/i;

/** Whether lspci's hex dump could have such a line: an offset, and bytes. */
export function isDumpLine(line: string): boolean {
  return /^\s*[0-9a-f]{2,3}:(\s+[0-9a-f]{2})+\s*$/i.test(line);
}

/**
 * The bytes. Lines of lspci -v between the header and the dump are passed over. ConfigTextError for other lines, for
 * offsets that leave bytes out, and for a second device.
 */
export function parseConfigText(text: string): Uint8Array {
  const bytes: number[] = [];
  let hasHeader = false;
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (LSPCI_HEADER.test(line.trim())) {
      if (hasHeader || bytes.length > 0) throw new ConfigTextError(i, 'a second device begins here; give each its own');
      hasHeader = true;
      continue;
    }
    const match = BYTES.exec(line);
    if (match === null) {
      if (hasHeader && bytes.length === 0) continue;
      throw new ConfigTextError(i, `${JSON.stringify(line.trim().slice(0, 40))} is not pairs of hexadecimal digits`);
    }
    const [, offset, digits] = match;
    if (offset !== undefined && Number.parseInt(offset, 16) !== bytes.length) {
      const expected = bytes.length.toString(16).padStart(2, '0');
      throw new ConfigTextError(i, `the dump goes on at ${offset}, where ${expected} would come next`);
    }
    bytes.push(...Buffer.from(digits.replace(/\s+/g, ''), 'hex'));
  }
  return Uint8Array.from(bytes);
}

/** Lines of 16 bytes, with offsets as lspci writes them. */
export function formatConfigText(config: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < config.length; at += 16) {
    const digits = Buffer.from(config.subarray(at, at + 16)).toString('hex');
    lines.push(`${at.toString(16).padStart(2, '0')}: ${digits.replace(/../g, '$& ').trimEnd()}`);
  }
  return `${lines.join('\n')}\n`;
}
