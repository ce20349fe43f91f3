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
  scenario: string;
  /** What was found, be it another invariant than the one that is looked for. */
  found: string | null;
}

export const listMutants = (): string[] => MUTANTS.map((mutant) => mutant.name);

/** `onResult` hears of each as soon as it is known. */
export async function runMutants(onResult: (result: MutantResult) => void = () => {}): Promise<MutantResult[]> {
  const results: MutantResult[] = [];
  for (const { name, invariant, scenario } of MUTANTS) {
    const start = performance.now();
    const { bug } = await explore({ scenario, mutant: name, max: 100_000 });
    // Minimising included: that is what one waits for.
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
