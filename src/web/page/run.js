/** A command that runs: its steps as they end, and how it ended. */
import { duration, h, show } from './format.js';

export function showSteps(section, { values, lists }) {
  says(section.querySelector('.says'), values.run);
  following(section, () => show(section.querySelector('.list'), (lists.steps ?? []).map(stepItem)));
}

/** Changes a list that scrolls. Its end stays in view, unless the reader has scrolled up. */
function following(section, change) {
  const scroll = section.querySelector('.scroll');
  const follows = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 30;
  change();
  if (follows) scroll.scrollTop = scroll.scrollHeight;
}

/** One sentence about the run, coloured by its result. */
export function says(place, { ok, says: sentence }) {
  const words = ok === null ? sentence : `${ok ? 'Good' : 'Not good'}: ${sentence}`;
  // A status is read aloud when it changes.
  if (place.textContent !== words) place.textContent = words;
  place.classList.toggle('bad', ok === false);
}

function stepItem({ name, ok, ms, detail }) {
  return h(
    'li',
    { class: ok ? null : 'bad' },
    h('b', {}, `${name}${ok ? '' : ': FAILED'}`),
    ms > 0 ? h('span', { class: 'soft' }, ` ${duration(ms)}`) : null,
    h('br'),
    h('span', { class: 'soft' }, detail),
  );
}

const PROGRAMS_SHOWN = 50;

/** Programs of the lab, newest first; those that differ are open. */
export function showPrograms(section, { values, lists }) {
  says(section.querySelector('.says'), values.run);
  const all = lists.programs ?? [];
  if (section.dataset.last === String(all.length) && all.length < 100) return;
  section.dataset.last = String(all.length);
  section.querySelector('.list').replaceChildren(...all.slice(-PROGRAMS_SHOWN).toReversed().map(programItem));
}

function programItem({ lender, steps, differs }) {
  const words =
    differs === null
      ? `${lender}: ${steps.length} steps agree`
      : `${lender}: step ${differs.at + 1} differs; the engine gives ${differs.engine}, the kernel ${differs.kernel}`;
  return h(
    'details',
    { open: differs !== null },
    h('summary', { class: differs === null ? null : 'bad' }, words),
    h('ol', {}, ...steps.map(({ step, result }) => h('li', {}, h('code', {}, step), ` gives ${result}`))),
  );
}

export function showConsole(section, { lists }) {
  following(section, () => {
    section.querySelector('pre').textContent = (lists.console ?? []).join('\n');
  });
}
