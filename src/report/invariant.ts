/** `docs/invariants.md#i2` for I2; null for a finding without a number, such as a data race. */
export function statementOf(invariant: string): string | null {
  return /^I\d+$/.test(invariant) ? `docs/invariants.md#${invariant.toLowerCase()}` : null;
}
