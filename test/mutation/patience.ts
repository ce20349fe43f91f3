/** How long a run of tests may go on without a word. A run that only waits for a processor does not lose its time. */
import { readdirSync, readFileSync } from 'node:fs';

const LOOK_EVERY_MS = 500;
/** Milliseconds of a clock tick (sysconf(_SC_CLK_TCK)). */
const TICK_MS = 10;

/** The fields of a stat file of /proc behind the name, which may have spaces. */
function statOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** The processor's time of a process, and whether any of its threads runs or wants to. Null when it is gone. */
function look(pid: number): { cpuMs: number; isRunning: boolean } | null {
  try {
    const fields = statOf(`/proc/${pid}/stat`);
    const tasks = readdirSync(`/proc/${pid}/task`).map((task) => statOf(`/proc/${pid}/task/${task}/stat`));
    const cpuMs = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
    return { cpuMs, isRunning: tasks.some(([state]) => state === 'R') };
  } catch {
    return null;
  }
}

export class Patience {
  private readonly timer: NodeJS.Timeout;
  private cpuMs = 0;
  private spentMs = 0;

  /** Calls `onEnd` when the process has worked or idled for `mostMs` since `refresh`. */
  constructor(pid: number, mostMs: number, onEnd: () => void) {
    this.timer = setInterval(() => {
      const seen = look(pid);
      if (seen === null) return;
      this.spentMs += seen.isRunning ? seen.cpuMs - this.cpuMs : LOOK_EVERY_MS;
      this.cpuMs = seen.cpuMs;
      if (this.spentMs > mostMs) onEnd();
    }, LOOK_EVERY_MS);
  }

  refresh(): void {
    this.spentMs = 0;
  }

  close(): void {
    clearInterval(this.timer);
  }
}
