/** The lines of a guest's console, as a page shows them. */

/** Escape sequences of terminals, and control characters other than tabs and line ends. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: a console has them, and a page must not
const UNSHOWN = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f]/g;

export class GuestConsole {
  private readonly onLines: (lines: string[]) => void;
  private readonly decoder = new TextDecoder();
  private rest = '';

  constructor(onLines: (lines: string[]) => void) {
    this.onLines = onLines;
  }

  /** Takes a part of the output. Hands on the lines that it ends. */
  take(part: Uint8Array): void {
    const lines = (this.rest + this.decoder.decode(part, { stream: true })).split('\n');
    this.rest = lines.pop()!;
    if (lines.length > 0) this.onLines(lines.map((line) => line.replaceAll(UNSHOWN, '')));
  }
}
