/** barter inspect: a machine as tables. */
import type { Command } from 'commander';
import { buildMachine } from '../machine/build.ts';
import { inspectMachine, type MachineView, type PeerView } from '../machine/inspect.ts';
import { loadMachine } from '../machine/load.ts';
import { sizeText } from '../machine/size-text.ts';
import { DocumentError } from '../machine/yaml.ts';
import { textTable } from '../report/table.ts';
import { machinePath } from './machine-path.ts';
import { declareCommand } from './summaries.ts';
import { UsageError } from './usage.ts';

export function addInspectCommand(program: Command): void {
  declareCommand(program, 'inspect')
    .argument('<machine>', 'a machine file')
    .option('--json', 'print one JSON document')
    .addHelpText('after', '\nExamples:\n  barter inspect examples/two-peers.yaml\n  barter inspect mine.yaml --json')
    .action((path: string, options: { json?: true }) => usage(() => inspect(path, options.json === true)));
}

/** A file that cannot be used is wrong usage. */
function usage(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (error instanceof DocumentError) throw new UsageError(error.message);
    throw error;
  }
}

function inspect(path: string, json: boolean): void {
  const view = inspectMachine(buildMachine(loadMachine(machinePath(path))));
  if (json) console.log(JSON.stringify(view));
  else print(view);
}

function print(view: MachineView): void {
  const hex = (value: number, width: number) => value.toString(16).padStart(width, '0');
  console.log(`${view.machine}${view.description === '' ? '' : `: ${view.description}`}\n`);
  const devices = view.devices.map((d) => [
    d.name,
    d.bdf,
    d.model,
    `${hex(d.vendor, 4)}:${hex(d.device, 4)}`,
    hex(d.classCode, 6),
    d.iommuGroup,
    d.resetMethods.join(' ') || 'none',
  ]);
  console.log(textTable(['device', 'address', 'model', 'id', 'class', 'group', 'resets'], devices));
  const bars = view.devices.flatMap((d) =>
    d.bars.map((bar) => [
      d.name,
      bar.index,
      bar.kind,
      bar.prefetchable ? 'yes' : 'no',
      sizeText(bar.sizeBytes),
      `0x${hex(bar.address, 8)}`,
    ]),
  );
  console.log(`\n${textTable(['device', 'BAR', 'kind', 'prefetchable', 'size', 'address'], bars)}`);
  const capabilities = view.devices.flatMap((d) =>
    d.capabilities.map((c) => [d.name, `0x${hex(c.offset, c.extended ? 3 : 2)}`, c.name, c.extended ? 'extended' : '']),
  );
  if (capabilities.length > 0) console.log(`\n${textTable(['device', 'at', 'capability', ''], capabilities)}`);
  printPeers(view);
}

function printPeers({ devices, p2p }: MachineView): void {
  console.log(
    '\nPeer to peer: how the device of a column reaches the memory of the device of a row, and over how many links',
  );
  const names = devices.map((device) => device.name);
  const rows = p2p.map((row, i) => [names[i], ...row.map((peer) => routeText(peer))]);
  console.log(textTable(['memory of', ...names], rows));
}

function routeText({ type, distance }: PeerView): string {
  return type === 'not-supported' ? 'no' : `${type} ${distance}`;
}
