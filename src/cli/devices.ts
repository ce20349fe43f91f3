/** barter devices: the models of a machine file and their properties, as QEMU's `-device help` lists its own. */
import type { Command } from 'commander';
import type { FileField } from '../machine/json-schema.ts';
import { deviceModels, type ModelView } from '../machine/models.ts';
import { wrapped } from '../report/wrap.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

const INDENT = 6;

export function addDevicesCommand(program: Command): void {
  declareCommand(program, 'devices')
    .argument('[model]', 'the model whose properties are wanted; all models without it')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExamples:\n  barter devices\n  barter devices memory\n  barter devices --json')
    .action((model: string | undefined, options: { json?: true }) => devices(model, options.json === true));
}

function devices(wanted: string | undefined, json: boolean): void {
  const all = deviceModels();
  const models = wanted === undefined ? all : all.filter(({ model }) => model === wanted);
  if (models.length === 0) {
    throw new UsageError(`there is no model ${wanted}; there are: ${all.map(({ model }) => model).join(', ')}`);
  }
  if (json) console.log(JSON.stringify({ models }));
  else if (wanted === undefined) console.log(summary(models));
  else console.log(models.map(details).join('\n\n'));
}

function summary(models: readonly ModelView[]): string {
  const lines = models.map(({ model, description }) => `${model}\n${wrapped(description, INDENT)}`);
  const more = "barter devices MODEL lists a model's properties; docs/machine-files.md explains them.";
  return `${lines.join('\n')}\n\n${wrapped(more)}`;
}

function details({ model, description, properties }: ModelView): string {
  return `${model}\n${wrapped(description, INDENT)}\n\n${properties.map(property).join('\n')}`;
}

function property({ path, values, isRequired, default: initial, description }: FileField): string {
  const note = isRequired ? ' (required)' : initial === null || initial === '{}' ? '' : ` (default: ${initial})`;
  return `  ${path}=<${values}>\n${wrapped(`${description}${note}`, INDENT)}`;
}
