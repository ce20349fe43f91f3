/** barter inspect: a machine as tables. */
import type { Command } from 'commander';
import { isSocket } from '../linux/is-socket.ts';
import { buildMachine } from '../machine/build.ts';
import { inspectMachine, type MachineView, type PeerView } from '../machine/inspect.ts';
import { sizeText } from '../machine/size-text.ts';
import { textTable } from '../report/table.ts';
import { COLUMNS, wrapped } from '../report/wrap.ts';
import { inspectSocket } from './inspect-socket.ts';
import { loadMachineFile } from './machine-path.ts';
import { declareCommand } from './summaries.ts';

export function addInspectCommand(program: Command): void {
  declareCommand(program, 'inspect')
    .argument('<machine>', 'a machine file, or the socket of a vfio-user server')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      '\nExamples:\n  barter inspect examples/two-peers.yaml\n  barter inspect mine.yaml --json\n  barter inspect /tmp/dev.sock',
    )
    .action((path: string, options: { json?: true }) =>
      (isSocket(path) ? inspectSocket : inspect)(path, options.json === true),
    );
}

function inspect(path: string, json: boolean): void {
  const view = inspectMachine(buildMachine(loadMachineFile(path)));
  if (json) console.log(JSON.stringify(view));
  else print(view);
}

function print(view: MachineView): void {
  const hex = (value: number, width: number) => value.toString(16).padStart(width, '0');
  console.log(`${wrapped(`${view.machine}${view.description === '' ? '' : `: ${view.description}`}`)}\n`);
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
      bar.prefetchable ? `${bar.kind} prefetchable` : bar.kind,
      sizeText(bar.sizeBytes),
      `0x${hex(bar.address, 8)}`,
    ]),
  );
  console.log(`\n${textTable(['device', 'BAR', 'kind', 'size', 'address'], bars)}`);
  console.log('\nCapabilities, with their offsets in config space');
  for (const { name, capabilities } of view.devices) {
    const all = capabilities.map((c) => `${c.name}@0x${hex(c.offset, c.extended ? 3 : 2)}`);
    console.log(`${name}\n${wrapped(all.join(' ') || 'none', 2)}`);
  }
  printPeers(view);
}

function printPeers({ devices, p2p }: MachineView): void {
  const title = 'How the device of a column reaches the memory of the device of a row, and over how many links';
  console.log(`\nPeer to peer\n${wrapped(title)}`);
  const names = devices.map((device) => device.name);
  const cells = p2p.map((row) => row.map(routeText));
  const isNarrow = (table: string) => table.slice(0, table.indexOf('\n')).length <= COLUMNS;
  const whole = textTable(
    ['memory of', ...names],
    cells.map((row, i) => [names[i], ...row]),
  );
  if (isNarrow(whole)) {
    console.log(whole);
    return;
  }
  // Numbers stand for names, and each table has as many columns as fit.
  const rows = names.map((name, i) => `${i + 1} ${name}`);
  const widest = Math.max(...cells.flat().map((cell) => cell.length));
  const room = COLUMNS - Math.max(...rows.map((row) => row.length));
  const step = Math.max(1, Math.floor(room / (widest + 2)));
  for (let from = 0; from < names.length; from += step) {
    const columns = names.map((_, i) => `${i + 1}`).slice(from, from + step);
    const part = cells.map((row, i) => [rows[i], ...row.slice(from, from + step)]);
    console.log(`${from === 0 ? '' : '\n'}${textTable(['memory of', ...columns], part)}`);
  }
}

function routeText({ type, distance }: PeerView): string {
  return type === 'not-supported' ? 'no' : `${type} ${distance}`;
}
