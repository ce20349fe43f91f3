/** Who started this process, where that is npx. */
import { readFileSync } from 'node:fs';
import type { OwnedFd } from '../linux/fd.ts';
import { openPidfd } from '../linux/process.ts';

/**
 * npx and the shell that it runs a command in, as pidfds: none for who was started otherwise. npx hands SIGINT and
 * SIGTERM to the shell, which dies of SIGTERM without a word to the command; of SIGHUP npx dies itself. Whoever should
 * end then has to look for their end. SIGINT to npx alone ends nobody: dash waits for its command, which never hears of
 * it; a terminal sends SIGINT to all of them.
 */
export function npxAndItsShell(): OwnedFd[] {
  if (process.env.npm_lifecycle_event !== 'npx') return [];
  const pids: number[] = [];
  let pid = process.ppid;
  if (argumentsOf(pid)[1] === '-c') {
    pids.push(pid);
    pid = parentOf(pid);
  }
  // Else it is somebody whom npx started, and who may end before this.
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
