/** Writes 65536 as "64K", as machine files do; plain bytes where no unit divides. */
export function sizeText(bytes: number): string {
  const units = ['', 'K', 'M', 'G', 'T'];
  let unit = 0;
  let value = bytes;
  while (unit < units.length - 1 && value >= 1024 && value % 1024 === 0) {
    value /= 1024;
    unit += 1;
  }
  return `${value}${units[unit]}`;
}
