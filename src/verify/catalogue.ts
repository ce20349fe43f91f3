/** Finds every program by its name, in this project's lists or in a user's file. */
import { existsSync } from 'node:fs';
import { type Catalogue, UnknownNameError } from '../explore/catalogue.ts';
import type { Program, ProgramFamily } from '../explore/world/program.ts';
import { importUserModule } from '../linux/user-module.ts';
import { CLASSICS } from './classics/index.ts';
import { findMutant } from './mutants/index.ts';
import { PRODUCT_GROUPS, PRODUCT_PROGRAMS } from './product/index.ts';

const FAMILIES: readonly ProgramFamily[] = [...PRODUCT_PROGRAMS, ...CLASSICS];
/** The programs that `loadPrograms` found, by file and name. */
const loaded = new Map<string, Program>();

/** A program that `barter explore` knows by name. */
export interface ListedScenario {
  /** The name as `barter explore` takes it. */
  name: string;
  /** One line for lists. */
  summary: string;
  /** Whether it is a classic benchmark of explorers, and not a part of Barter. */
  isClassic: boolean;
  /** The title of the group that lists it. */
  group: string;
}

/** Returns all built-in programs, in the order of `barter scenarios`. */
export function listScenarios(): ListedScenario[] {
  const groups = [...PRODUCT_GROUPS, { title: 'Classic benchmarks of explorers', families: CLASSICS }];
  return groups.flatMap(({ title: group, families }) =>
    families.map(({ name, summary, sizes, isClassic }) => ({
      name: sizes === null || !isClassic ? name : `${name}:${sizes.usual}`,
      summary: sizes === null || isClassic ? summary : `${summary} (:${sizes.min} to :${sizes.max})`,
      isClassic,
      group,
    })),
  );
}

/** Throws UnknownNameError if no program has this name, or if it does not come in this size. */
export function findProgram(scenario: string): Program {
  const known = loaded.get(scenario);
  if (known !== undefined) return known;
  const [name, size] = scenario.split(':');
  const family = FAMILIES.find((one) => one.name === name);
  if (family === undefined) throw new UnknownNameError(`there is no scenario ${name}; barter scenarios lists them`);
  if (family.sizes === null) {
    if (size !== undefined) throw new UnknownNameError(`${name} takes no size`);
    return family.make(0);
  }
  const { min, max, usual } = family.sizes;
  const count = size === undefined ? usual : Number(size);
  if (!Number.isInteger(count) || count < min || count > max) {
    throw new UnknownNameError(`${scenario}: the size must be ${min} to ${max}`);
  }
  return family.make(count);
}

const FILE = /^(.*\.[cm]?[jt]s)(?::(.*))?$/;

/**
 * Loads the program of a user's file, so that `findProgram` knows it. `FILE:NAME` is the module's exported program of
 * that name; `FILE` is its only program. Ignores other names. Throws UnknownNameError if the file has no such program.
 */
export async function loadPrograms(scenario: string): Promise<void> {
  const match = FILE.exec(scenario);
  if (match === null || loaded.has(scenario)) return;
  const [, file, name] = match;
  if (!existsSync(file)) throw new UnknownNameError(`${file}: there is no such file`);
  const module = await importUserModule(file);
  const programs = Object.values(module).flat().filter(isProgram);
  const found = name === undefined && programs.length === 1 ? programs[0] : programs.find((one) => one.name === name);
  if (found === undefined) {
    const names = programs.map((one) => `${file}:${one.name}`).join(', ');
    throw new UnknownNameError(
      names === '' ? `${file} exports no program: an object with name, summary and build` : `say which: ${names}`,
    );
  }
  loaded.set(scenario, { ...found, name: scenario, build: (stage) => found.build(stage) });
}

/** The explorer's input: every program and mutant of this project, and the files of users. */
export const catalogue: Catalogue = {
  url: import.meta.url,
  loadPrograms,
  findProgram,
  applyMutant: (name) => findMutant(name).apply(),
};

function isProgram(value: unknown): value is Program {
  const { name, build } = (value ?? {}) as Partial<Program>;
  return typeof name === 'string' && typeof build === 'function';
}
