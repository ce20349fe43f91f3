/** A command that runs: its steps as they end, and how it ended. */
import { duration, h } from './format.js';

export function showSteps(section, { values, lists }) {
  says(section.querySelector('.says'), values.run);
  section.querySelector('.list').replaceChildren(...(lists.steps ?? []).map(stepItem));
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
