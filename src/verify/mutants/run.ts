/** Runs every mutant on its scenario. The explorer must catch each by its invariant. */
import { explore } from '../explore.ts';
import { MUTANTS } from './index.ts';

export interface MutantResult {
  name: string;
  invariant: string;
  caught: boolean;
  seconds: number;
  schedule: string[];
  preemptions: number;
  scenario: string;
  /** The message of the bug that was found, even if it breaks another invariant than the expected one. */
  found: string | null;
}

export const listMutants = (): string[] => MUTANTS.map((mutant) => mutant.name);

/** Calls `onResult` with each result as soon as it is known. */
export async function runMutants(onResult: (result: MutantResult) => void = () => {}): Promise<MutantResult[]> {
  const results: MutantResult[] = [];
  for (const { name, invariant, scenario } of MUTANTS) {
    const start = performance.now();
    const { bug } = await explore({ scenario, mutant: name, max: 100_000 });
    // The time includes minimising, since the user waits for that too.
    const seconds = (performance.now() - start) / 1000;
    results.push({
      name,
      invariant,
      caught: bug?.invariant === invariant,
      seconds,
      schedule: bug?.schedule ?? [],
      preemptions: bug?.preemptions ?? 0,
      scenario,
      found: bug?.message ?? null,
    });
    onResult(results[results.length - 1]);
  }
  return results;
}
