/** Finds the npx that started this process. */
import { readFileSync } from 'node:fs';
import type { OwnedFd } from '../linux/fd.ts';
import { openPidfd } from '../linux/process.ts';

/**
 * pidfds of npx and of the shell that it runs a command in; none if npx did not start this process. npx forwards SIGINT
 * and SIGTERM to the shell. SIGTERM kills the shell, and the command gets no signal; SIGHUP kills npx itself. A command
 * that should end then must watch for their end. SIGINT to npx alone ends nothing: dash waits for its command, which
 * does not get the signal. A terminal sends SIGINT to all of them.
 */
export function npxAndItsShell(): OwnedFd[] {
  if (process.env.npm_lifecycle_event !== 'npx') return [];
  const pids: number[] = [];
  let pid = process.ppid;
  if (argumentsOf(pid)[1] === '-c') {
    pids.push(pid);
    pid = parentOf(pid);
  }
  // Else the parent is another process that npx started, and it may end before this one.
  if (!argumentsOf(pid)[0]?.startsWith('npm ')) return [];
  pids.push(pid);
  return pids.map(openPidfd).filter((fd) => fd !== null);
}

function argumentsOf(pid: number): string[] {
  return read(pid, 'cmdline').split('\0');
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)$/m.exec(read(pid, 'status'))?.[1] ?? 0);
}

/** Empty for a process that is gone. */
function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
