/** Tables of text for terminals. */
import { stripVTControlCharacters } from 'node:util';

/** The width of a cell in columns: colour takes none. */
const widthOf = (cell: string | number) => stripVTControlCharacters(String(cell)).length;

/** Columns as wide as their widest cell, two spaces between; numbers of a column are right-aligned. */
export function textTable(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => widthOf(row[i] ?? ''))));
  const isNumber = header.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === 'number'));
  const line = (cells: readonly (string | number)[]) =>
    cells
      .map((cell, i) => {
        const pad = ' '.repeat(widths[i] - widthOf(cell));
        return isNumber[i] ? `${pad}${cell}` : `${cell}${pad}`;
      })
      .join('  ')
      .trimEnd();
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}
