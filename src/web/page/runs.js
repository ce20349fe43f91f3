/** Runs that end: the steps of a demo or of the lab, the console of a guest, a search. */
import { count, duration, h } from './format.js';
import { plot } from './messages.js';

let orders = null;

export function showSteps(section, { values, lists }) {
  const steps = lists.steps ?? [];
  const items = steps.map(({ name, ok, ms, detail }) =>
    h(
      'li',
      {},
      h('span', { class: ok === false ? 'bad' : 'good' }, ok === false ? 'failed: ' : ok === null ? '' : 'ok: '),
      `${name} `,
      h('span', { class: 'ms' }, `${ms === undefined ? '' : duration(ms)} ${detail ?? ''}`),
    ),
  );
  if (values.step) items.push(h('li', { class: 'now' }, `${values.step} ...`));
  section.querySelector('.steps').replaceChildren(...items);
}

export function showConsole(section, { lists }) {
  const pre = section.querySelector('pre');
  const isAtEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
  pre.textContent = (lists.console ?? []).join('\n');
  if (isAtEnd) pre.scrollTop = pre.scrollHeight;
}

export function showSearch(section, { values, lists }) {
  const { search } = values;
  section
    .querySelector('.figures')
    .replaceChildren(
      ...Object.entries(search.figures).map(([name, value]) =>
        h('div', {}, h('dt', {}, name), h('dd', {}, typeof value === 'number' ? count(value) : value)),
      ),
    );
  const samples = lists.samples ?? [];
  if (samples.length > 1) {
    const data = [samples.map(({ atMs }) => atMs / 1000), samples.map(({ executions }) => executions)];
    orders = plot(section.querySelector('.plot'), orders, 'Orders that were run', ['orders'], data);
  }
  const bug = section.querySelector('.bug');
  if (search.bug && bug.hidden) {
    bug.hidden = false;
    bug.append(
      h('p', { class: 'bad' }, search.bug),
      h('iframe', { src: 'timeline.html', title: 'Timeline of the bug' }),
    );
  }
}
