/** Rates and latencies over time, and the newest messages. */

import { clock, count, duration, h, number, rows } from './format.js';
import { plot } from './plot.js';

const MAX_SHOWN = 200;
const LATENCY_COMMANDS = 4;

let rates = null;
let latencies = null;

export function showMessages(section, { values, lists }) {
  const samples = lists.rates ?? [];
  const newest = lists.messages ?? [];
  showPlots(section.querySelector('.plots'), samples, values.machine);
  const last = samples.at(-1)?.commands ?? [];
  rows(
    section.querySelector('#commands tbody'),
    last.map(({ device, command, perSecond, total, errors, p50Us, p99Us }) => [
      device,
      command,
      number(count(perSecond)),
      number(total),
      number(errors),
      number(p50Us === null ? '–' : duration(p50Us / 1000)),
      number(p99Us === null ? '–' : duration(p99Us / 1000)),
    ]),
    'No message has come yet.',
  );
  choices(
    'by-device',
    values.machine.places.map(({ name }) => name),
  );
  choices('by-command', [...new Set([...last, ...newest].map(({ command }) => command))].sort());
  const device = document.getElementById('by-device').value;
  const command = document.getElementById('by-command').value;
  const shown = newest.filter(
    (row) => (device === '' || row.device === device) && (command === '' || row.command === command),
  );
  rows(
    section.querySelector('#newest tbody'),
    shown
      .slice(-MAX_SHOWN)
      .reverse()
      .map(({ atMs, failed, latencyUs, ...row }) => ({
        cells: [clock(atMs), row.device, row.command, row.request, row.reply, number(duration(latencyUs / 1000))],
        failed,
      })),
    newest.length === 0 ? 'No message has come since this page was opened.' : 'No newest message fits the choice.',
  );
  const left = values['messages-left-out'] ?? 0;
  section.querySelector('.left-out').textContent =
    left > 0 ? `${count(left)} messages of the last half second are only counted` : '';
}

/** Adds the choices that are new, and keeps what is chosen. */
function choices(id, names) {
  const select = document.getElementById(id);
  const known = new Set([...select.options].map(({ value }) => value));
  for (const name of names) if (!known.has(name)) select.append(h('option', { value: name }, name));
}

function showPlots(holder, samples, machine) {
  const devices = machine.places.map(({ name }) => name);
  const times = samples.map(({ atMs }) => atMs / 1000);
  const perDevice = devices.map((name) =>
    samples.map((sample) => sample.devices.find(({ device }) => device === name)?.messagesPerSecond ?? null),
  );
  const busiest = busiestCommands(samples);
  const perCommand = busiest.map((name) => samples.map((sample) => worst(sample.commands, name)));
  rates = plot(holder, rates, { title: 'Messages per second', names: devices, data: [times, ...perDevice] });
  latencies = plot(holder, latencies, {
    title: 'Latency by command: 99 % are below',
    names: busiest,
    data: [times, ...perCommand],
    words: (us) => duration(us / 1000),
    isLog: true,
  });
}

function busiestCommands(samples) {
  const totals = new Map();
  for (const { command, total } of samples.at(-1)?.commands ?? [])
    totals.set(command, (totals.get(command) ?? 0) + total);
  return [...totals]
    .sort(([, a], [, b]) => b - a)
    .slice(0, LATENCY_COMMANDS)
    .map(([command]) => command);
}

function worst(commands, name) {
  const all = commands.filter(({ command, p99Us }) => command === name && p99Us !== null).map(({ p99Us }) => p99Us);
  return all.length === 0 ? null : Math.max(...all);
}
