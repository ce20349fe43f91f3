/** Locks, waits and limits. */
import { count, duration, h, rows, show } from './format.js';

/** A shorter wait is nothing to see. */
const LONG_MS = 1000;

export function showTasks(section, { values }) {
  const { locks, waits } = values.state;
  const held = locks.map(({ lock, holders, waiters }) => [
    lock,
    holders.join(', ') || 'nobody',
    waiters.join(', ') || 'nobody',
  ]);
  show(section.querySelector('.locks'), [
    held.length === 0
      ? h('p', { class: 'empty' }, 'No lock is held across a wait.')
      : table('Locks', ['Lock', 'Held by', 'Waited for by'], held),
  ]);
  const long = waits
    .filter(({ ms }) => ms > LONG_MS)
    .map(({ task, waitsFor, ms, on }) => [task, duration(ms), waitsFor, on.join(', ') || 'not known']);
  show(section.querySelector('.waits'), [
    long.length === 0
      ? h('p', { class: 'empty' }, 'No task waits for more than a second.')
      : table('Tasks that wait for more than a second', ['Task', 'Since', 'Waits for', 'Whom'], long),
  ]);
}

export function showLimits(section, { values }) {
  const used = values.state.limits.filter(({ used: is }) => is > 0);
  const hits = Object.entries(values['limit-hits'] ?? {}).map(([limit, times]) => `${limit} (${count(times)})`);
  section.querySelector('.hits').textContent =
    hits.length === 0 ? 'No limit has been hit.' : `Hit so far: ${hits.join(', ')}.`;
  rows(section.querySelector('tbody'), used.map(limitRow), 'No client uses anything that has a limit.');
}

function limitRow({ limit, of, used, most }) {
  const part = used / most;
  const meter = h('meter', { min: '0', max: '1', high: '0.8', value: String(part), 'aria-label': `${limit} of ${of}` });
  const share = h('span', { class: 'share' }, meter, ` ${(100 * part).toFixed(part < 0.01 ? 2 : 0)} %`);
  return [limit, of, `${count(used)} of ${count(most)}`, share];
}

function table(caption, heads, list) {
  return h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      {},
      h('caption', {}, caption),
      h('thead', {}, h('tr', {}, ...heads.map((head) => h('th', { scope: 'col' }, head)))),
      h('tbody', {}, ...list.map((cells) => h('tr', {}, ...cells.map((cell) => h('td', {}, cell))))),
    ),
  );
}
