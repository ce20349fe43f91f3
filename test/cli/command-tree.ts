/** The commands of `barter` as commander knows them: their arguments, and their options that take a value. */
import { Command } from 'commander';
import { addCommand } from '../../src/cli/main.ts';
import { SUMMARIES } from '../../src/cli/summaries.ts';

export interface CommandInput {
  /** `--name` of an option, or the place of an argument among the command's own. */
  option: string | null;
  index: number;
  /** What the help calls the value: `file` of `--html <file>`. */
  value: string;
}

export interface CommandNode {
  /** For example `['lab', 'run']`. */
  path: string[];
  inputs: CommandInput[];
}

/** Every command that has no commands below it. */
export async function commandTree(): Promise<CommandNode[]> {
  const nodes: CommandNode[] = [];
  for (const name of Object.keys(SUMMARIES) as (keyof typeof SUMMARIES)[]) {
    const program = new Command('barter');
    await addCommand(program, name);
    for (const command of program.commands) if (command.name() === name) nodes.push(...leaves(command, [name]));
  }
  return nodes;
}

function leaves(command: Command, path: string[]): CommandNode[] {
  if (command.commands.length > 0) return command.commands.flatMap((each) => leaves(each, [...path, each.name()]));
  const ofArguments = command.registeredArguments.map((each, index) => ({ option: null, index, value: each.name() }));
  const ofOptions = command.options
    .filter((option) => option.required || option.optional)
    .map((option) => ({
      option: option.long!,
      index: -1,
      value: /[<[](\S+?)(?:\.\.\.)?[>\]]$/.exec(option.flags)![1],
    }));
  return [{ path, inputs: [...ofArguments, ...ofOptions] }];
}
