/** Rates and latencies over time, and the newest messages. */

import { clock, count, duration, h, rows } from './format.js';
import uPlot from './vendor/uplot.js';

const COLOURS = ['#2d7dd2', '#d1495b', '#3a9d5d', '#b8860b', '#7b5ea7', '#00798c'];
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
      count(perSecond),
      total,
      errors,
      p50Us === null ? '' : duration(p50Us / 1000),
      p99Us === null ? '' : duration(p99Us / 1000),
    ]),
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
        cells: [clock(atMs), row.device, row.command, row.request, row.reply, duration(latencyUs / 1000)],
        failed,
      })),
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
  rates = plot(holder, rates, 'Messages per second', devices, [times, ...perDevice]);
  latencies = plot(holder, latencies, 'p99 below, µs, by command', busiest, [times, ...perCommand]);
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

/** Draws a plot, or gives an existing one its new data. */
function plot(holder, before, title, names, data) {
  const width = Math.max(240, Math.min(640, holder.clientWidth / (holder.clientWidth > 640 ? 2 : 1) - 16));
  if (before !== null && before.names.join() === names.join() && before.width === width) {
    before.chart.setData(data);
    return before;
  }
  const place = before?.place ?? h('div', {}, h('h3', {}, title), h('div', {}));
  before?.chart.destroy();
  if (before === null) holder.append(place);
  const ink = getComputedStyle(document.body).color;
  const axis = { stroke: ink, grid: { stroke: `color-mix(in srgb, ${ink} 15%, transparent)` } };
  const options = {
    width,
    height: 180,
    series: [
      {},
      ...names.map((label, i) => ({ label, stroke: COLOURS[i % COLOURS.length], width: 2, spanGaps: true })),
    ],
    axes: [axis, { ...axis, size: 60, values: (_, ticks) => ticks.map((tick) => count(tick)) }],
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    cursor: { drag: { x: false, y: false } },
  };
  return { chart: new uPlot(options, data, place.lastChild), place, names, width };
}
