/** Connects to the server's stream, keeps what it says, and lets each panel draw it. */
import { setUpControl, showControl } from './control.js';
import { showLanes } from './lanes.js';
import { showMachine } from './machine.js';
import { showMessages } from './messages.js';
import { showConsole, showPrograms, showSteps } from './run.js';
import { showScreens } from './screens.js';
import { showBug, showSearch } from './search.js';
import { showLimits, showTasks } from './tasks.js';

/** The most items of a list that the page keeps. */
const KEPT = 2000;
const DRAW_MS = 200;

const store = { values: {}, lists: {} };
/** Each panel: the id of its section, the topics without which it is hidden, and what draws it. */
const PANELS = [
  { id: 'steps', needs: ['run', 'steps'], draw: showSteps },
  { id: 'programs', needs: ['run', 'programs'], draw: showPrograms },
  { id: 'console', needs: ['console'], draw: showConsole },
  { id: 'search', needs: ['run', 'search'], draw: showSearch },
  { id: 'bug', needs: ['bug'], draw: showBug },
  { id: 'machine', needs: ['machine'], draw: showMachine },
  { id: 'buffers', needs: ['machine'], draw: showLanes },
  { id: 'screens', needs: ['screens'], draw: showScreens, only: () => store.values.screens.length > 0 },
  { id: 'control', needs: ['machine', 'state'], draw: showControl, only: () => store.values.kind === 'control' },
  { id: 'messages', needs: ['machine'], draw: showMessages },
  { id: 'tasks', needs: ['state'], draw: showTasks },
  { id: 'limits', needs: ['state'], draw: showLimits },
];

let source = null;
let isPaused = false;
let drawAt = 0;
let status = 'Connecting ...';
const connection = document.getElementById('connection');

function onData(isWhole, text) {
  const { set, add } = JSON.parse(text);
  if (isWhole) {
    store.values = {};
    store.lists = {};
  }
  Object.assign(store.values, set);
  for (const [topic, items] of Object.entries(add)) {
    store.lists[topic] = [...(store.lists[topic] ?? []), ...items].slice(-KEPT);
  }
  scheduleDraw();
}

function scheduleDraw() {
  if (isPaused || drawAt !== 0) return;
  drawAt = setTimeout(draw, DRAW_MS);
}

function draw() {
  drawAt = 0;
  showStatus();
  for (const { id, needs, draw: show, only } of PANELS) {
    const section = document.getElementById(id);
    const has = needs.every((topic) => topic in store.values || topic in store.lists) && (only?.() ?? true);
    section.hidden = !has;
    if (has) show(section, store);
  }
}

function connect() {
  if (source !== null || document.hidden) return;
  source = new EventSource('events');
  source.addEventListener('open', () => say('Live'));
  source.addEventListener('whole', (event) => onData(true, event.data));
  source.addEventListener('update', (event) => onData(false, event.data));
  source.addEventListener('missed', (event) => say(`Live; this page was too slow and missed ${event.data} updates`));
  source.addEventListener('error', () => say('The server does not answer; trying again'));
}

function disconnect() {
  source?.close();
  source = null;
}

function say(text) {
  status = text;
  showStatus();
}

/** A status is read aloud when it changes. */
function showStatus() {
  const name = store.values.run?.title ?? store.values.machine?.machine;
  const words = name === undefined ? status : `${status}: ${name}`;
  if (connection.textContent !== words) connection.textContent = words;
}

/** A hidden page costs the server nothing. */
document.addEventListener('visibilitychange', () => (document.hidden ? disconnect() : connect()));

const pause = document.getElementById('pause');
pause.addEventListener('click', () => {
  isPaused = !isPaused;
  pause.setAttribute('aria-pressed', String(isPaused));
  scheduleDraw();
});
document.getElementById('window').addEventListener('change', scheduleDraw);
for (const id of ['by-device', 'by-command']) document.getElementById(id).addEventListener('change', scheduleDraw);
// Lanes move with time, also while nothing happens.
setInterval(scheduleDraw, 1000);
setUpControl();
connect();
