/** Errors of a command line, each one sentence: what is wrong, where, and what would be right. */
import { InvalidArgumentError } from 'commander';

/** The user's request is impossible: exit status 2, and a sentence that says what would be right. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** Returns `name` if it is known; else throws a UsageError that lists the known names. */
export function known<Name extends string>(kind: string, name: string, names: readonly Name[]): Name {
  if ((names as readonly string[]).includes(name)) return name as Name;
  throw new UsageError(`there is no ${kind} ${name}; there are: ${names.join(', ')}`);
}

/** A parser of an option's value for commander, which adds the option's name to the error. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
    throw new InvalidArgumentError(`It takes a whole number ${range}.`);
  };
}

const REASONS: Record<string, string> = {
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  EROFS: 'the file system is read-only',
  ENOENT: 'there is no such file or folder',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder',
  EEXIST: 'there is something else already',
  ENOSPC: 'the file system is full',
  EDQUOT: 'the quota is used up',
  EMFILE: 'this process has too many open files',
  ELOOP: 'its symbolic links go in circles',
  ENAMETOOLONG: 'the name is too long',
};

/** The system's reason for a refusal, in words: `there is no such file or folder (ENOENT)`. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined) return message;
  return code in REASONS ? `${REASONS[code]} (${code})` : message;
}

/** The sentence for an unexpected error of the system; null for any other error. */
export function systemErrorText(error: unknown): string | null {
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string' || syscall === undefined) return null;
  return `${syscall}${path === undefined ? '' : ` ${path}`}: ${reasonOf(error)}`;
}
