/** `docs/invariants.md#i2` for I2; null for what is not a numbered invariant, such as a data race. */
export function statementOf(invariant: string): string | null {
  return /^I\d+$/.test(invariant) ? `docs/invariants.md#${invariant.toLowerCase()}` : null;
}
