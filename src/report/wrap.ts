/** Text in lines of a terminal's width. */

export const COLUMNS = 80;

/** Breaks text into lines of 80 columns, each indented by `indent` blanks. A longer word gets its own line. */
export function wrapped(text: string, indent = 0): string {
  const lines = [''];
  for (const word of text.split(/\s+/)) {
    const line = lines.at(-1)!;
    if (line === '') lines[lines.length - 1] = word;
    else if (indent + line.length + 1 + word.length > COLUMNS) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.map((line) => `${' '.repeat(indent)}${line}`).join('\n');
}
