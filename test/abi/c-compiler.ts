import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Asks the C compiler for the values of expressions. Returns undefined for an expression that does not compile, such as
 * a name that these headers do not have.
 */
export function askCompiler(
  prologue: string,
  expressions: string[],
  flags: string[] = [],
): Map<string, bigint | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-abi-'));
  try {
    let open = expressions;
    for (let round = 0; ; round++) {
      const first = prologue.split('\n').length + 3;
      const lines = open.map((e) => `  printf("%lld\\n", (long long)(${e}));`);
      const head = `${prologue}\n#include <stdio.h>\n#include <stddef.h>\nint main(void) {`;
      const source = `${head}\n${lines.join('\n')}\n  return 0;\n}\n`;
      writeFileSync(join(folder, 'probe.c'), source);
      const bad = compile(folder, flags);
      if (bad === undefined) break;
      if (bad.size === 0 || round === 3) throw new Error('the probe does not compile and names no line of ours');
      open = open.filter((_, i) => !bad.has(first + 1 + i));
    }
    const out = execFileSync(join(folder, 'probe'), { encoding: 'utf8' }).trim().split('\n');
    const known = new Map(open.map((e, i) => [e, BigInt(out[i])]));
    return new Map(expressions.map((e) => [e, known.get(e)]));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Compiles probe.c; returns the lines with errors, or undefined if there are none. */
function compile(folder: string, flags: string[]): Set<number> | undefined {
  const args = ['-w', '-fmax-errors=0', ...flags, '-o', join(folder, 'probe'), join(folder, 'probe.c')];
  try {
    execFileSync('cc', args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
    return undefined;
  } catch (error) {
    const text = (error as { stderr?: string }).stderr;
    if (text === undefined || text === '') {
      throw new Error('no C compiler: install one (Debian: apt-get install gcc libc6-dev linux-libc-dev)', {
        cause: error,
      });
    }
    return new Set([...text.matchAll(/probe\.c:(\d+):\d+: (?:fatal )?error/g)].map((m) => Number(m[1])));
  }
}

/** Whether `cc` can be run. */
export function hasCompiler(): boolean {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
