/** Machine files that are cut, doubled and overwritten. Each is a machine, or an error that names the place. */
import { readFileSync } from 'node:fs';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { DocumentError } from '../../src/machine/yaml.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { PROFILES } from '../../src/vfio/profile.ts';
import { FuzzFinding, type FuzzRun } from './fuzzer.ts';
import type { FuzzRandom } from './random.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const DUMP = read('test/machine/dumps/igb.txt').replace(/^/gm, '      ');
const CAPTURED = `machine: captured
ports:
  - { name: root, kind: root }
devices:
  - name: nic
    model: captured
    port: root
    bars: [{ index: 0, kind: mem32, size: 128K }, { index: 3, kind: mem32, size: 16K }]
    config: |
${DUMP}
`;
const EXAMPLES = [read('examples/two-peers.yaml'), read('examples/apart.yaml'), CAPTURED];
/** File, line, field and reason. */
const REFUSAL = /^fuzz\.yaml:\d+: .+: \S/s;
const WORDS = [
  '0',
  '-1',
  '64M',
  '{}',
  '[]',
  'null',
  '~',
  '&a',
  '*a',
  '!!js',
  '"',
  "'",
  ': ',
  '- ',
  '1e999',
  '0x10',
  '\t',
];

function mutate(text: string, random: FuzzRandom): string {
  const at = random.below(text.length + 1);
  const end = Math.min(text.length, at + random.below(30));
  switch (random.below(5)) {
    case 0:
      return text.slice(0, at) + text.slice(end);
    case 1:
      return text.slice(0, end) + text.slice(at);
    case 2:
      return text.slice(0, at) + random.pick(WORDS) + text.slice(at);
    case 3:
      return text.slice(0, at) + String.fromCharCode(random.below(0x3000)) + text.slice(at);
    default: {
      const lines = text.split('\n');
      const i = random.below(lines.length);
      [lines[i], lines[0]] = [lines[0], lines[i]];
      return lines.join('\n');
    }
  }
}

/** One file counts as a hundred messages, since parsing YAML costs as much. */
export function fuzzMachineFile({ random, messages, coverage }: FuzzRun): void {
  for (let done = 0; done < messages; done += 100) {
    let text = random.pick(EXAMPLES);
    for (let i = 1 + random.below(4); i > 0; i--) text = mutate(text, random);
    try {
      buildVfioDevices(buildMachine(parseMachine(text, 'fuzz.yaml')).functions, PROFILES.default);
      coverage.count('machine file: taken');
    } catch (error) {
      if (!(error instanceof DocumentError) || !REFUSAL.test(error.message))
        throw new FuzzFinding(`${(error as Error).stack}\nfor the file:\n${text}`);
      coverage.count('machine file: refused');
    }
  }
}
