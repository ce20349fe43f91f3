/** `barter complete`: completion for shells, by @bomb.sh/tab. Its scripts ask this command at each Tab. */
import { type Complete, RootCommand, ShellCompDirective, script } from '@bomb.sh/tab';
import { Argument, type Command } from 'commander';
import { declareCommand } from './summaries.ts';

const SHELLS = ['bash', 'zsh', 'fish', 'powershell'] as const;

/** The names that an argument or an option takes, by the command. Imported on demand: the lists are of the product. */
const NAMES: Record<string, () => Promise<readonly string[]>> = {
  'explore scenario': async () => (await import('../verify/catalogue.ts')).listScenarios().map(({ name }) => name),
  'explore --algorithm': async () => (await import('../explore/spec.ts')).ALGORITHMS,
  'explore --mutant': async () => (await import('../verify/mutants/index.ts')).MUTANTS.map(({ name }) => name),
  'run scenario': async () => (await import('../scenario/load.ts')).builtInScenarios(),
  'reproducer scenario': async () => (await import('../scenario/load.ts')).builtInScenarios(),
  'run --profile': async () => Object.keys((await import('../vfio/profile.ts')).PROFILES),
  'serve --profile': async () => Object.keys((await import('../vfio/profile.ts')).PROFILES),
  'devices model': async () => (await import('../machine/models.ts')).deviceModels().map(({ model }) => model),
  'bench name': async () => (await import('./bench.ts')).benchNames(),
  'lab run name': async () => (await import('./lab-run.ts')).labRunNames(),
};

/** `program` has all commands; those of other words than the first one only with their summaries. */
export function addCompleteCommand(program: Command): void {
  declareCommand(program, 'complete')
    .addArgument(new Argument('<shell>', 'prints its script').choices(SHELLS))
    .argument('[words...]', 'after --: prints what the last word may become')
    .addHelpText(
      'after',
      `
Examples:
  source <(barter complete bash)                       in ~/.bashrc; needs the package bash-completion
  source <(barter complete zsh)                        in ~/.zshrc, after compinit
  barter complete fish | source                        in ~/.config/fish/config.fish
  barter complete -- explore revoke-vs-map --alg       what a script asks`,
    )
    .action((shell: string) => script(shell, 'barter', 'barter'));
}

/** Prints the completions of the last of `words`, one on a line, with a tab before the description. */
export async function printCompletions(program: Command, words: readonly string[]): Promise<void> {
  const last = words.at(-1) ?? '';
  const root = new RootCommand();
  await describe(root, program, '');
  // The shell completes files where Barter has no names: the library would forbid it.
  Object.defineProperty(root, 'directive', {
    get: () => {
      const isKnown = root.completions.some(({ value }) => value.startsWith(last.replace(/^.*=/, '')));
      const { ShellCompDirectiveDefault, ShellCompDirectiveNoFileComp } = ShellCompDirective;
      return isKnown || last.startsWith('-') ? ShellCompDirectiveNoFileComp : ShellCompDirectiveDefault;
    },
    set: () => {},
  });
  root.parse([...words]);
}

const addAll = (names: readonly string[]) => (add: Complete) => {
  for (const name of names) add(name, '');
};

async function describe(root: RootCommand, from: Command, path: string): Promise<void> {
  const command = path === '' ? root : root.command(path, from.description());
  const help = from.createHelp();
  for (const option of help.visibleOptions(from)) {
    if (option.long === undefined) continue;
    const names = option.argChoices ?? (await NAMES[`${path} ${option.long}`]?.()) ?? [];
    const short = option.short?.slice(1);
    if (option.required || option.optional) {
      command.option(option.long.slice(2), option.description, addAll(names), short);
    } else command.option(option.long.slice(2), option.description, short);
  }
  for (const argument of from.registeredArguments) {
    const names = argument.argChoices ?? (await NAMES[`${path} ${argument.name()}`]?.()) ?? [];
    command.argument(argument.name(), addAll(names), argument.variadic);
  }
  for (const child of help.visibleCommands(from)) {
    if (child.name() !== 'help') await describe(root, child, `${path} ${child.name()}`.trim());
  }
}
