/** A search of the explorer: orders, depth, estimate, threads, and the bug with its timeline. */
import { count, duration, h, rows } from './format.js';
import { plot } from './plot.js';
import { says } from './run.js';

let rates = null;
let depths = null;
let shownTimeline = false;

export function showSearch(section, { values, lists }) {
  const { executions, blocked, steps, seconds, total, done, depth, threads } = values.search;
  says(section.querySelector('.says'), values.run);
  const runs = executions + blocked;
  const facts = [
    ['Orders', executions.toLocaleString('en')],
    ['Runs that were cut off', blocked.toLocaleString('en')],
    ['Steps of an order, on average', runs === 0 ? '' : (steps / runs).toFixed(1)],
    ['Depth now', depth === null ? '' : `${depth} steps`],
    ['Estimate of all orders', done > 0 ? Math.max(total, executions).toLocaleString('en') : 'not known yet'],
    ['Time', duration(1000 * seconds)],
    ['Time left, about', done > 0 && done < 1 ? duration((1000 * seconds * (1 - done)) / done) : ''],
  ];
  rows(
    section.querySelector('.facts tbody'),
    facts.filter(([, value]) => value !== ''),
  );
  section.querySelector('meter').value = done;
  section.querySelector('.share').textContent = `${(100 * done).toFixed(1)} %`;
  // A search that stopped at a bug does not know which part of all orders it has seen.
  section.querySelector('.progress').hidden = values.run.ok !== null && done === 0;
  rows(
    section.querySelector('.threads tbody'),
    threads.map(({ name, parts, partMs, rests }) => [
      name,
      parts,
      partMs === null ? '' : duration(partMs),
      rests ? 'rests' : 'searches',
    ]),
  );
  section.querySelector('.threads').hidden = threads.length === 0;
  const samples = lists['search-samples'] ?? [];
  if (samples.length < 2) return;
  const times = samples.map(({ atMs }) => atMs / 1000);
  const holder = section.querySelector('.plots');
  const perSecond = samples.map((sample) => sample.perSecond);
  rates = plot(holder, rates, { title: 'Orders per second', names: ['orders/s'], data: [times, perSecond] });
  if (samples.some((sample) => sample.depth !== null)) {
    const depthsOf = samples.map((sample) => sample.depth);
    const title = 'Depth of the search, steps';
    depths = plot(holder, depths, { title, names: ['depth'], data: [times, depthsOf] });
  }
}

export function showBug(section, { values }) {
  const { message, statement, preemptions, steps, hasTimeline } = values.bug;
  section.querySelector('.message').textContent = statement === null ? message : `${message} (${statement})`;
  section.querySelector('.note').textContent =
    `${count(steps)} steps, ${count(preemptions)} preemption${preemptions === 1 ? '' : 's'}`;
  if (!hasTimeline || shownTimeline) return;
  shownTimeline = true;
  section
    .querySelector('.timeline')
    .replaceChildren(
      h('p', {}, h('a', { href: 'timeline.html', target: '_blank', rel: 'noopener' }, 'The timeline alone')),
      h('iframe', { src: 'timeline.html', title: 'The timeline of the bug' }),
    );
  section.scrollIntoView({ block: 'start' });
}
