/** Scenario files: YAML, checked, with errors that name file, line and field. */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageFile } from '../linux/package-file.ts';
import { DocumentError, parseYaml, readDocument } from '../machine/yaml.ts';
import { type Scenario, scenarioSchema } from './step.ts';

const EXAMPLES = packageFile('examples');
const BUILT_IN = join(EXAMPLES, 'scenarios');

export interface LoadedScenario {
  scenario: Scenario;
  /** The path of its machine file. */
  machinePath: string;
}

/** The names of Barter's built-in scenarios. */
export function builtInScenarios(): string[] {
  if (!existsSync(BUILT_IN)) return [];
  return readdirSync(BUILT_IN)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => file.slice(0, -'.yaml'.length))
    .sort();
}

/** Loads a scenario by path, or by the name of a built-in one. DocumentError for an invalid file. */
export function loadScenario(nameOrPath: string): LoadedScenario {
  const builtIn = join(BUILT_IN, `${nameOrPath}.yaml`);
  const path = existsSync(nameOrPath) ? nameOrPath : builtIn;
  if (!existsSync(path)) {
    throw new DocumentError(
      `there is no scenario ${nameOrPath}, neither as a file nor built in; barter scenarios lists the built-in ones`,
    );
  }
  const scenario = parseScenario(readDocument(path), path);
  const beside = join(dirname(path), scenario.machine);
  const machinePath = [beside, `${beside}.yaml`, join(EXAMPLES, `${scenario.machine}.yaml`)].find((candidate) =>
    existsSync(candidate),
  );
  if (machinePath === undefined) throw new DocumentError(`${path}: machine: there is no machine ${scenario.machine}`);
  return { scenario, machinePath };
}

/** Parses and checks a scenario. Errors name `path`. */
function parseScenario(text: string, path: string): Scenario {
  return parseYaml(text, path, scenarioSchema);
}
