/** The machine as a tree of ports and devices, with their BARs and what is lent of them. */
import { bytes, count, duration, h, hex, show } from './format.js';

const POWER = ['D0', 'D1', 'D2', 'D3hot'];

export function showMachine(section, { values, lists }) {
  const { machine, state } = values;
  const rates = lists.rates ?? [];
  section.querySelector('.note').textContent = machine.description;
  const view = { machine, state, rate: rates.at(-1), dma: ratesOfDma(state) };
  const roots = machine.ports.filter(({ parent }) => parent === null);
  const complex = h('li', {}, h('span', { class: 'port' }, 'Root complex'), list(roots, view));
  show(section.querySelector('.tree'), [h('ul', { 'aria-label': 'Ports and devices' }, complex)]);
}

function list(ports, view) {
  const flows = ports.map(({ name }) => sum(devicesBelow(name, view.machine).map((device) => flowOf(device, view))));
  const items = ports.map((port, i) => portItem(port, flows[i], sum(flows.slice(i + 1)), view));
  return ports.length === 0 ? null : h('ul', {}, ...items);
}

/** `passing` is the traffic of the siblings below, whose links run along this one. */
function portItem({ name, kind }, flow, passing, view) {
  const { machine } = view;
  const children = machine.ports.filter(({ parent }) => parent === name);
  const devices = machine.places.filter(({ port }) => port === name);
  const words = { root: 'root port', upstream: 'upstream port', downstream: 'downstream port' };
  return h(
    'li',
    { class: [...linkWords('', flow), ...linkWords('-passed', passing)].join(' ') },
    h('span', { class: 'port' }, `${name} (${words[kind]})`),
    isMoving(flow) ? h('span', { class: 'flow' }, flowText(flow)) : null,
    list(children, view),
    devices.length === 0 ? null : h('ul', {}, ...devices.map((device) => deviceItem(device, view))),
  );
}

/** The devices at a port and at the ports below it. */
function devicesBelow(port, machine) {
  const here = machine.places.filter((place) => place.port === port).map(({ name }) => name);
  const below = machine.ports.filter(({ parent }) => parent === port);
  return [...here, ...below.flatMap(({ name }) => devicesBelow(name, machine))];
}

/** The traffic of a device in a second: its clients' messages, and the bytes of its DMA. */
function flowOf(device, { rate, dma }) {
  const messages = rate?.devices.find((each) => each.device === device)?.messagesPerSecond ?? 0;
  return { messages, dmaRate: dma.get(device) ?? 0 };
}

function sum(flows) {
  const add = (a, b) => ({ messages: a.messages + b.messages, dmaRate: a.dmaRate + b.dmaRate });
  return flows.reduce(add, { messages: 0, dmaRate: 0 });
}

function isMoving({ messages, dmaRate }) {
  return messages > 0 || dmaRate > 0;
}

/** The classes of a link with traffic. Messages flow down to a device, DMA flows up from it. */
function linkWords(suffix, flow) {
  if (!isMoving(flow)) return [];
  const words = [...(flow.messages > 0 ? [`down${suffix}`] : []), ...(flow.dmaRate > 0 ? [`up${suffix}`] : [])];
  return [suffix === '' ? 'busy' : 'passed', ...words];
}

function flowText({ messages, dmaRate }) {
  const words = [];
  if (messages > 0) words.push(`${count(messages)} messages/s`);
  if (dmaRate > 0) words.push(`${bytes(Math.round(dmaRate))}/s by DMA`);
  return words.join(', ');
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
  const flow = flowOf(name, view);
  return h(
    'li',
    { class: linkWords('', flow).join(' ') },
    h(
      'article',
      { class: `device${now?.client ? ' claimed' : ''}`, 'aria-label': name },
      h('h3', {}, `${name} `, h('span', { class: 'soft' }, `${model}, ${still?.bdf ?? ''}`)),
      h('p', {}, clientText(now, state)),
      h('p', {}, stateText(now, traffic, flow)),
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

function stateText(now, traffic, { dmaRate }) {
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
        const slice = h('span', { class: `slice ${kindOf}` });
        // The page's policy forbids style attributes, but not the style object.
        slice.style.left = `${(100 * range.offset) / sizeBytes}%`;
        slice.style.width = `${(100 * range.sizeBytes) / sizeBytes}%`;
        return slice;
      }),
  );
  const importers = own.filter(({ ranges }) => ranges.some(({ region }) => region === index));
  const lent = importers.length === 0 ? '' : `; ${importers.length} lent`;
  const borrowers = importers.flatMap((buffer) => buffer.importers.filter(({ mappings }) => mappings > 0));
  const names = [...new Set(borrowers.map(({ name }) => name))];
  const by = names.length === 0 ? '' : `, mapped by ${names.join(', ')}`;
  const words = `BAR ${index}: ${bytes(sizeBytes)} ${kind}${prefetchable ? ' prefetchable' : ''} at ${hex(address)}${lent}${by}`;
  const memory = h('div', { class: `memory${now?.memoryDecodes ? '' : ' off'}`, 'aria-hidden': 'true' }, ...slices);
  return h('div', { class: 'bar' }, words, memory);
}
