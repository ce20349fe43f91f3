/** What a path names, as far as servers care. */
import { statSync } from 'node:fs';

/** Whether the path is a socket. False for every path that cannot be looked at. */
export function isSocket(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isSocket() === true;
  } catch {
    return false;
  }
}
