/** Every mutant on its scenario: each must be caught, by its invariant. */
import { explore } from '../explore.ts';
import { MUTANTS } from './index.ts';

export interface MutantResult {
  name: string;
  invariant: string;
  caught: boolean;
  seconds: number;
  schedule: string[];
  preemptions: number;
}

export const listMutants = (): string[] => MUTANTS.map((mutant) => mutant.name);

export async function runMutants(): Promise<MutantResult[]> {
  const results: MutantResult[] = [];
  for (const { name, invariant, scenario } of MUTANTS) {
    const { bug, seconds } = await explore({ scenario, mutant: name, max: 100_000 });
    results.push({
      name,
      invariant,
      caught: bug?.invariant === invariant,
      seconds,
      schedule: bug?.schedule ?? [],
      preemptions: bug?.preemptions ?? 0,
    });
  }
  return results;
}
