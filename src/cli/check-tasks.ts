/** barter check-tasks. */
import type { Command } from 'commander';
import { checkTasks, ProjectError } from '../lint/check-tasks.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

export function addCheckTasksCommand(program: Command): void {
  declareCommand(program, 'check-tasks')
    .argument('[tsconfig]', 'the project', 'tsconfig.json')
    .option('--json', 'one JSON document')
    .addHelpText('after', '\nExample:\n  barter check-tasks tsconfig.json')
    .action(checkTasksCommand);
}

function checkTasksCommand(tsconfig: string, flags: { json?: boolean }): void {
  const { files, findings } = checked(tsconfig);
  if (flags.json === true) console.log(JSON.stringify({ files, findings }));
  else {
    for (const { file, line, column, message } of findings) console.log(`${file}:${line}:${column}: ${message}`);
    console.log(`${files} files, ${findings.length === 0 ? 'no task is forgotten' : `${findings.length} findings`}`);
  }
  if (findings.length > 0) process.exitCode = 1;
}

function checked(tsconfig: string): ReturnType<typeof checkTasks> {
  try {
    return checkTasks(tsconfig);
  } catch (error) {
    if (error instanceof ProjectError) throw new UsageError(error.message);
    throw error;
  }
}
