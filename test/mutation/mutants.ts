/** Mutants of source files, by StrykerJS's instrumenter: one copy of the sources holds all of them as switches. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Instrumenter } from '@stryker-mutator/instrumenter';

export interface Mutant {
  /** The value of ACTIVE_MUTANT that switches it on. */
  readonly id: string;
  readonly file: string;
  readonly line: number;
  readonly lineText: string;
  readonly mutator: string;
  readonly original: string;
  readonly replacement: string;
}

/** The variable of the environment that switches a mutant on, in every thread and child process. */
export const ACTIVE_MUTANT = '__STRYKER_ACTIVE_MUTANT__';
/** Texts with spaces or values in them are for people: tests check that they name what is wrong, not each word. */
const isProse = (mutator: string, original: string) => mutator === 'StringLiteral' && /[ `]/.test(original);

const silent = () => {};
const LOGGER = {
  isTraceEnabled: () => false,
  isDebugEnabled: () => false,
  isInfoEnabled: () => false,
  isWarnEnabled: () => false,
  isErrorEnabled: () => false,
  isFatalEnabled: () => false,
  trace: silent,
  debug: silent,
  info: silent,
  warn: silent,
  error: silent,
  fatal: silent,
};

/** The text between two places; lines count from 0. */
function textBetween(content: string, start: Place, end: Place): string {
  const lines = content.split('\n').slice(start.line, end.line + 1);
  lines[lines.length - 1] = lines[lines.length - 1].slice(0, end.column);
  lines[0] = lines[0].slice(start.column);
  return lines.join('\n');
}

interface Place {
  line: number;
  column: number;
}

/** `files` are relative to `root`. Returns their new contents, and the mutants that these hold. */
export async function instrument(
  root: string,
  files: readonly string[],
): Promise<{ contents: ReadonlyMap<string, string>; mutants: readonly Mutant[] }> {
  const originals = new Map(files.map((name) => [name, readFileSync(join(root, name), 'utf8')]));
  const inputs = files.map((name) => ({ name, mutate: true, content: originals.get(name)! }));
  const options = { plugins: null, ignorers: [], excludedMutations: [] };
  const result = await new Instrumenter(LOGGER).instrument(inputs, options);
  const mutants = result.mutants.map(({ id, fileName, mutatorName, replacement, location }) => ({
    id,
    file: fileName,
    line: location.start.line + 1,
    lineText: originals.get(fileName)!.split('\n')[location.start.line],
    mutator: mutatorName,
    original: textBetween(originals.get(fileName)!, location.start, location.end),
    replacement: replacement ?? '',
  }));
  const behaviour = mutants.filter(({ mutator, original }) => !isProse(mutator, original));
  return { contents: new Map(result.files.map(({ name, content }) => [name, content])), mutants: behaviour };
}
