/** The user asked for something that cannot be: exit status 2, and a sentence that says what would be right. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}
