// A reporter of node:test: a line with the file of each test that passed. The first failure ends the process.
import { writeSync } from 'node:fs';

export default async function* firstFailure(events) {
  for await (const { type, data } of events) {
    if (type === 'test:pass') yield `passed ${data.file}\n`;
    if (type !== 'test:fail' || data.todo !== undefined) continue;
    writeSync(1, `failed ${data.file}\n`);
    process.exit(1);
  }
}
