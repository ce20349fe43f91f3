/** The scenarios that are kept: one for each fact that a guest can show, and one for each finding in the kernel. */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type LoadedScenario, loadScenario } from '../../src/scenario/load.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

export interface KeptScenario extends LoadedScenario {
  /** From the top of the repository. */
  file: string;
}

export const FINDINGS = 'test/lab/findings';
export const facts = (): KeptScenario[] => load('test/scenario/facts');
export const findings = (): KeptScenario[] => load(FINDINGS);

/** None where the package was installed without its tests. */
function load(folder: string): KeptScenario[] {
  const path = `${REPOSITORY}${folder}`;
  if (!existsSync(path)) return [];
  const files = readdirSync(path).filter((file) => file.endsWith('.yaml'));
  return files.sort().map((file) => ({ file: `${folder}/${file}`, ...loadScenario(`${path}/${file}`) }));
}
