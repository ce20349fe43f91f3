/** The screens of devices. Each is asked for a picture about once a second while the page is seen. */
import { h } from './format.js';

const POLL_MS = 1000;
const shown = new Map();

export function showScreens(section, { values }) {
  for (const device of values.screens) {
    if (shown.has(device)) continue;
    const canvas = h('canvas', { role: 'img', 'aria-label': `The screen of ${device}`, width: '320', height: '200' });
    const note = h('p', { class: 'note', role: 'status' });
    shown.set(device, canvas);
    section.querySelector('.list').append(h('figure', {}, h('figcaption', {}, device), canvas, note));
    void follow(device, canvas, note);
  }
}

async function follow(device, canvas, note) {
  for (;;) {
    if (!document.hidden) await take(device, canvas, note).catch((error) => say(note, error.message));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Draws the picture, or says why there is none. */
async function take(device, canvas, note) {
  const response = await fetch(`screen/${encodeURIComponent(device)}.png`);
  const isPicture = response.headers.get('content-type') === 'image/png';
  canvas.hidden = !isPicture;
  if (!isPicture) {
    say(note, await response.text());
    return;
  }
  const picture = await createImageBitmap(await response.blob());
  if (canvas.width !== picture.width) canvas.width = picture.width;
  if (canvas.height !== picture.height) canvas.height = picture.height;
  canvas.getContext('2d').drawImage(picture, 0, 0);
  say(note, `${picture.width} by ${picture.height} pixels`);
}

/** A status is read aloud when it changes. */
function say(note, text) {
  const words = text.trim();
  if (note.textContent !== words) note.textContent = words;
}
