/**
 * A reporter of node:test. After the run it prints each test file that took longer than 3 s, with the reason that
 * test/slow-files.json gives. Times depend on the machine, so that a file without a reason is shown, and fails nothing.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const SLOW_MS = 3000;

/** The reason of a file: its own, or that of its folder. */
function reasonFor(file, reasons) {
  return (
    reasons[file] ?? reasons[`${dirname(file)}/`] ?? 'NO REASON: make it faster, or say why in test/slow-files.json'
  );
}

export default async function* slowFiles(events) {
  const msOf = new Map();
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || data.nesting !== 0 || data.file === undefined) continue;
    const file = relative(root, data.file);
    msOf.set(file, (msOf.get(file) ?? 0) + data.details.duration_ms);
  }
  const slow = [...msOf].filter(([, ms]) => ms > SLOW_MS).sort(([, a], [, b]) => b - a);
  if (slow.length === 0) return;
  const reasons = JSON.parse(readFileSync(join(root, 'test', 'slow-files.json'), 'utf8'));
  const width = Math.max(...slow.map(([file]) => file.length));
  yield `\nTest files above ${SLOW_MS / 1000} s:\n`;
  for (const [file, ms] of slow) {
    yield `${(ms / 1000).toFixed(1).padStart(7)} s  ${file.padEnd(width)}  ${reasonFor(file, reasons)}\n`;
  }
}
