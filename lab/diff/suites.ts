/** The kept scenarios: one for each fact that a guest can show, and one for each finding in the kernel. */
import { readdirSync } from 'node:fs';
import { packageFile } from '../../src/linux/package-file.ts';
import { type LoadedScenario, loadScenario } from '../../src/scenario/load.ts';

export interface KeptScenario extends LoadedScenario {
  /** The path from the top of the repository. */
  file: string;
}

export const FINDINGS = 'lab/findings';
export const facts = (): KeptScenario[] => load('lab/facts');
export const findings = (): KeptScenario[] => load(FINDINGS);

function load(folder: string): KeptScenario[] {
  const path = packageFile(folder);
  const files = readdirSync(path).filter((file) => file.endsWith('.yaml'));
  return files.sort().map((file) => ({ file: `${folder}/${file}`, ...loadScenario(`${path}/${file}`) }));
}
