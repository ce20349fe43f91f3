/** `barter check-tasks`: checks a project's sources with the project's own TypeScript. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import type * as TypeScript from 'typescript';
import { type TaskFinding, TaskRules } from './task-rules.ts';

/** The project cannot be checked; the message says what to do. */
export class ProjectError extends Error {}

export interface CheckedTasks {
  files: number;
  findings: TaskFinding[];
}

/** Checks every file of the project that `tsconfig` describes, except declarations and packages. */
export function checkTasks(tsconfig = 'tsconfig.json'): CheckedTasks {
  const path = resolve(tsconfig);
  if (!existsSync(path)) throw new ProjectError(`${tsconfig} is not there: name the project's tsconfig.json`);
  const ts = loadTypeScript(dirname(path));
  const { config, error } = ts.readConfigFile(path, ts.sys.readFile);
  if (error !== undefined) throw new ProjectError(`${tsconfig}: ${inOneLine(ts, error)}`);
  const { fileNames, options, errors } = ts.parseJsonConfigFileContent(config, ts.sys, dirname(path));
  if (errors.length > 0) throw new ProjectError(`${tsconfig}: ${inOneLine(ts, errors[0])}`);
  const program = ts.createProgram(fileNames, { ...options, noEmit: true });
  const rules = new TaskRules(ts, program.getTypeChecker());
  const files = program
    .getSourceFiles()
    .filter((file) => !file.isDeclarationFile && !program.isSourceFileFromExternalLibrary(file));
  const findings = files.flatMap((file) => rules.check(file));
  return { files: files.length, findings: findings.map((one) => ({ ...one, file: relative('.', one.file) })) };
}

/** Packages whose API gives the types of a program. TypeScript 7's package has only the compiler. */
const PACKAGES = ['typescript', '@typescript/typescript6'];

function loadTypeScript(folder: string): typeof TypeScript {
  const require = createRequire(join(folder, 'package.json'));
  for (const name of PACKAGES) {
    try {
      const ts = require(name) as Partial<typeof TypeScript>;
      if (ts.createProgram !== undefined) return ts as typeof TypeScript;
    } catch {
      // Try the next one.
    }
  }
  throw new ProjectError(
    `${folder} has no TypeScript that programs can ask for types: run npm install --save-dev ${PACKAGES[1]}`,
  );
}

function inOneLine(ts: typeof TypeScript, { messageText }: TypeScript.Diagnostic): string {
  return ts.flattenDiagnosticMessageText(messageText, ' ');
}
