/** The machine as a tree of ports and devices, with their BARs and what is lent of them. */
import { bytes, count, duration, h, hex } from './format.js';

const POWER = ['D0', 'D1', 'D2', 'D3hot'];

export function showMachine(section, { values, lists }) {
  const { machine, state } = values;
  const rates = lists.rates ?? [];
  section.querySelector('.note').textContent = machine.description;
  const view = { machine, state, rate: rates.at(-1), dma: ratesOfDma(state) };
  const roots = machine.ports.filter(({ parent }) => parent === null);
  const complex = h('li', {}, h('span', { class: 'port' }, 'Root complex'), list(roots, view));
  section.querySelector('.tree').replaceChildren(h('ul', { 'aria-label': 'Ports and devices' }, complex));
}

function list(ports, view) {
  return ports.length === 0 ? null : h('ul', {}, ...ports.map((port) => portItem(port, view)));
}

function portItem({ name, kind }, view) {
  const { machine } = view;
  const children = machine.ports.filter(({ parent }) => parent === name);
  const devices = machine.places.filter(({ port }) => port === name);
  const isBusy = hasTraffic(name, view);
  const words = { root: 'root port', upstream: 'upstream port', downstream: 'downstream port' };
  return h(
    'li',
    { class: isBusy ? 'busy' : null },
    h('span', { class: 'port' }, `${name} (${words[kind]})`),
    list(children, view),
    devices.length === 0 ? null : h('ul', {}, ...devices.map((device) => deviceItem(device, view))),
  );
}

/** Whether a device below the port has traffic: messages of its client, or DMA. */
function hasTraffic(port, view) {
  const { machine } = view;
  const devices = machine.places.filter((place) => place.port === port);
  if (devices.some(({ name }) => isMoving(name, view))) return true;
  return machine.ports.some(({ name, parent }) => parent === port && hasTraffic(name, view));
}

function isMoving(device, { rate, dma }) {
  const messages = rate?.devices.find((each) => each.device === device)?.messagesPerSecond ?? 0;
  return messages > 0 || (dma.get(device) ?? 0) > 0;
}

let before = null;
let dmaRates = new Map();

/** The bytes by DMA of each device in a second, between the last two states. */
function ratesOfDma(state) {
  if (state === undefined || state.atMs === before?.atMs) return dmaRates;
  const was = new Map((before?.devices ?? []).map(({ name, dmaBytes }) => [name, dmaBytes]));
  const seconds = before === null ? 0 : (state.atMs - before.atMs) / 1000;
  const rate = ({ name, dmaBytes }) => (seconds > 0 ? (dmaBytes - (was.get(name) ?? dmaBytes)) / seconds : 0);
  dmaRates = new Map(state.devices.map((device) => [device.name, rate(device)]));
  before = state;
  return dmaRates;
}

function deviceItem({ name, model }, view) {
  const { machine, state, rate } = view;
  const still = machine.devices.find((each) => each.name === name);
  const now = state?.devices.find((each) => each.name === name);
  const traffic = rate?.devices.find((each) => each.device === name);
  const isBusy = isMoving(name, view);
  return h(
    'li',
    { class: isBusy ? 'busy' : null },
    h(
      'article',
      { class: `device${now?.client ? ' claimed' : ''}`, 'aria-label': name },
      h('h3', {}, `${name} `, h('span', { class: 'soft' }, `${model}, ${still?.bdf ?? ''}`)),
      h('p', {}, clientText(now, state)),
      h('p', {}, stateText(now, traffic, view.dma.get(name) ?? 0)),
      ...(now?.bars ?? still?.bars ?? []).map((bar) => barItem(name, bar, now, state)),
    ),
  );
}

function clientText(now, state) {
  if (!now?.client) return 'no client';
  const { pid, sinceMs } = now.client;
  const name = state.processes?.[pid];
  const who = pid === 0 ? 'a process of another namespace' : `process ${pid}${name ? ` (${name})` : ''}`;
  const waiting = now.waitingClients > 0 ? `; ${now.waitingClients} more wait` : '';
  return `client: ${who}, for ${duration(state.atMs - sinceMs)}${waiting}`;
}

function stateText(now, traffic, dmaRate) {
  if (now === undefined) return '';
  const words = [now.lowPower ? 'low power' : POWER[now.powerState], `memory ${now.memoryDecodes ? 'on' : 'off'}`];
  if (traffic?.messagesPerSecond > 0) {
    words.push(`${count(traffic.messagesPerSecond)} messages/s, ${bytes(Math.round(traffic.bytesPerSecond))}/s`);
  }
  if (now.dmaBytes > 0) words.push(`${bytes(now.dmaBytes)} by DMA`);
  if (dmaRate > 0) words.push(`${bytes(Math.round(dmaRate))}/s by DMA now`);
  return words.join(', ');
}

function barItem(device, bar, now, state) {
  const { index, kind, sizeBytes, address, prefetchable } = bar;
  const own = (state?.buffers ?? []).filter((buffer) => buffer.device === device);
  const slices = own.flatMap((buffer) =>
    buffer.ranges
      .filter(({ region }) => region === index)
      .map((range) => {
        const isMapped = buffer.importers.some(({ mappings }) => mappings > 0);
        const kindOf = buffer.revoked ? 'revoked' : isMapped ? 'mapped' : 'lent';
        return h('span', {
          class: `slice ${kindOf}`,
          style: null,
          'data-left': String((100 * range.offset) / sizeBytes),
          'data-width': String((100 * range.sizeBytes) / sizeBytes),
        });
      }),
  );
  // The page's policy forbids style attributes, but not the style object.
  for (const slice of slices) {
    slice.style.left = `${slice.dataset.left}%`;
    slice.style.width = `${slice.dataset.width}%`;
  }
  const importers = own.filter(({ ranges }) => ranges.some(({ region }) => region === index));
  const lent = importers.length === 0 ? '' : `; ${importers.length} lent`;
  const borrowers = importers.flatMap((buffer) => buffer.importers.filter(({ mappings }) => mappings > 0));
  const names = [...new Set(borrowers.map(({ name }) => name))];
  const by = names.length === 0 ? '' : `, mapped by ${names.join(', ')}`;
  const words = `BAR ${index}: ${bytes(sizeBytes)} ${kind}${prefetchable ? ' prefetchable' : ''} at ${hex(address)}${lent}${by}`;
  const memory = h('div', { class: `memory${now?.memoryDecodes ? '' : ' off'}`, 'aria-hidden': 'true' }, ...slices);
  return h('div', { class: 'bar' }, words, memory);
}
