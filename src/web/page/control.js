/** The triggers: each button sends one command, with the token that is in the page's address. */
import { bytes, h } from './format.js';

const TRIGGERS = [
  { name: 'Memory off', command: { op: 'memory', on: false } },
  { name: 'Memory on', command: { op: 'memory', on: true } },
  { name: 'D3hot', command: { op: 'power', state: 3 } },
  { name: 'D0', command: { op: 'power', state: 0 } },
  { name: 'FLR', command: { op: 'flr' } },
  { name: 'Reset', command: { op: 'reset' } },
  { name: 'Hot reset', command: { op: 'hot-reset' } },
  { name: 'Low power', command: { op: 'low-power', on: true } },
  { name: 'Wake', command: { op: 'low-power', on: false } },
];

const panels = new Map();
/** Milliseconds that the reader has chosen for the next importer of a buffer. */
const holds = new Map();
let result = null;

export function setUpControl() {
  result = document.querySelector('#control .result');
}

export function showControl(section, { values }) {
  const { machine, state } = values;
  const holder = section.querySelector('.devices');
  for (const { name } of machine.places) {
    if (!panels.has(name)) {
      panels.set(name, devicePanel(name, machine));
      holder.append(panels.get(name).element);
    }
    panels.get(name).update(state);
  }
}

async function send(command, words) {
  result.className = 'result';
  result.textContent = `${words} ...`;
  const began = performance.now();
  try {
    const response = await fetch('control', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(command),
    });
    const text = await response.text();
    const { ok, error } = response.headers.get('content-type')?.startsWith('application/json')
      ? JSON.parse(text)
      : { ok: false, error: text };
    result.textContent = ok ? `${words}: done in ${(performance.now() - began).toFixed(0)} ms` : `${words}: ${error}`;
    result.classList.toggle('bad', !ok);
  } catch (error) {
    result.textContent = `${words}: ${error.message}`;
    result.classList.add('bad');
  }
}

function button(name, onclick, label = null) {
  return h('button', { type: 'button', onclick, 'aria-label': label }, name);
}

function devicePanel(device, machine) {
  const { bars } = machine.devices.find(({ name }) => name === device);
  const memory = bars.filter(({ kind }) => kind !== 'io');
  const close = button('Close', () => send({ op: 'close', device }, `Close ${device}`), `Close ${device}`);
  const owner = h('p', { class: 'note' });
  const buffers = h('div', {});
  const element = h(
    'fieldset',
    {},
    h('legend', {}, device),
    owner,
    h(
      'div',
      { class: 'buttons' },
      ...TRIGGERS.map(({ name, command }) =>
        button(name, () => send({ ...command, device }, `${name}: ${device}`), `${name}: ${device}`),
      ),
      close,
    ),
    memory.length === 0 ? null : exportForm(device, memory),
    buffers,
  );
  let shown = '';
  const update = (state) => {
    const now = state.devices.find(({ name }) => name === device);
    const isOurs = state.control.open.includes(device);
    close.hidden = !isOurs;
    owner.textContent = isOurs
      ? 'The page has opened it: other clients get EBUSY until Close.'
      : now.client
        ? `Process ${now.client.pid} has it.`
        : 'Nobody has it; the page opens it at the first trigger or export, and holds it until Close.';
    const own = state.buffers.filter((buffer) => buffer.device === device);
    const free = state.devices.filter(
      ({ name, client }) => name !== device && (client === null || state.control.open.includes(name)),
    );
    const key = JSON.stringify([
      own.map(({ id, importers }) => [id, importers.length]),
      state.control,
      free.map(({ name }) => name),
    ]);
    // Buttons stay the same elements while nothing changes, so that the focus stays too.
    if (key === shown) return;
    shown = key;
    const focused = buffers.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    buffers.replaceChildren(...own.map((buffer) => bufferPanel(buffer, free, state.control)));
    if (focused === null) return;
    const again = [...buffers.querySelectorAll('button, input, select')].find((each) => nameOf(each) === focused);
    (again ?? element.querySelector('button')).focus();
  };
  return { element, update };
}

function nameOf(element) {
  return element.getAttribute('aria-label') ?? element.textContent;
}

/** An input or a choice below its name. */
function field(name, input) {
  return h('label', {}, name, input);
}

function exportForm(device, bars) {
  const region = h(
    'select',
    { 'aria-label': `BAR of ${device} to export from` },
    ...bars.map(({ index, sizeBytes }) => h('option', { value: String(index) }, `BAR ${index} (${bytes(sizeBytes)})`)),
  );
  const offset = h('input', { value: '0', 'aria-label': `Offset in the BAR of ${device}` });
  const size = h('input', {
    value: '4096',
    'aria-label': `Bytes to export of ${device}; 0 with offset 0 is the whole BAR`,
  });
  const go = () =>
    send(
      {
        op: 'export',
        device,
        region: Number(region.value),
        offset: Number(offset.value),
        sizeBytes: Number(size.value),
      },
      `Export of ${device}`,
    );
  return h(
    'div',
    { class: 'form', role: 'group', 'aria-label': `Export of ${device}` },
    field('Slice of', region),
    field('at', offset),
    field('bytes', size),
    button('Export', go, `Export a slice of ${device}`),
  );
}

function bufferPanel({ id }, free, control) {
  const importer = h(
    'select',
    { 'aria-label': `Importer of buffer ${id}` },
    ...free.map(({ name }) => h('option', { value: name }, name)),
  );
  const hold = h('input', {
    value: holds.get(id) ?? '300',
    oninput: ({ target }) => holds.set(id, target.value),
    'aria-label': `Milliseconds until the importer of buffer ${id} lets go`,
  });
  const go = () =>
    send({ op: 'import', buffer: id, device: importer.value, holdMs: Number(hold.value) }, `Import of buffer ${id}`);
  const own = control.imports.filter(({ buffer }) => buffer === id);
  const drops = own.map((each) =>
    button(`Drop import by ${each.device}`, () =>
      send({ op: 'drop-import', importer: each.id }, `Drop the import of buffer ${id}`),
    ),
  );
  const isOurs = control.buffers.includes(id);
  const close = () => send({ op: 'close-buffer', buffer: id }, `Close buffer ${id}`);
  const form = [field('Importer', importer), field('holds, ms', hold), button('Import', go, `Import buffer ${id}`)];
  const noOne = h('p', { class: 'note' }, 'No other device is free to import it.');
  return h(
    'div',
    { class: 'lent', role: 'group', 'aria-label': `Buffer ${id}` },
    h('h3', {}, `Buffer ${id}`),
    free.length === 0 ? noOne : h('div', { class: 'form' }, ...form),
    h('div', { class: 'buttons' }, ...drops, isOurs ? button('Close buffer', close, `Close buffer ${id}`) : null),
  );
}
