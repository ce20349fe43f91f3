/** Numbers and times as people read them, and elements of the page. */

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

export function count(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)} k`;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

/** A duration given in milliseconds. */
export function duration(ms) {
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

export function clock(atMs) {
  const date = new Date(atMs);
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

export function hex(value) {
  return `0x${value.toString(16)}`;
}

/** Makes an element: attributes, and on* listeners as functions; children are elements or text. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === 'function') element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A cell of a column of numbers. */
export function number(value) {
  return h('td', { class: 'number' }, String(value));
}

/**
 * Shows rows in a table's body. Each is a list of cells, or { cells, failed }. A cell is a text, a `number`, or an
 * element. Without rows, one row says `empty`.
 */
export function rows(body, list, empty = '') {
  const columns = body.parentElement.querySelectorAll('thead th').length;
  const none = h('tr', {}, h('td', { colspan: String(columns), class: 'soft' }, empty));
  show(body, list.length === 0 && empty !== '' ? [none] : list.map(rowOf));
}

function rowOf(row) {
  const { cells, failed } = Array.isArray(row) ? { cells: row, failed: false } : row;
  return h('tr', { class: failed ? 'failed' : null }, ...cells.map(cellOf));
}

function cellOf(cell) {
  return cell instanceof HTMLTableCellElement ? cell : h('td', {}, cell instanceof Element ? cell : String(cell));
}

/**
 * Makes an element's children look like `children`. Those that are there stay and are only changed, so that selected
 * text, the place of a screen reader and a running animation stay too. A child with a `data-key` stays the one of its
 * key wherever it goes. New children must not have listeners.
 */
export function show(parent, children) {
  const keyed = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  for (const [i, child] of children.entries()) {
    const at = parent.childNodes[i];
    const key = child.dataset?.key;
    const was = key !== undefined ? keyed.get(key) : at?.dataset?.key === undefined ? at : undefined;
    if (was === undefined) parent.insertBefore(child, at ?? null);
    else if (was.nodeName !== child.nodeName) was.replaceWith(child);
    else {
      if (was !== at) parent.insertBefore(was, at);
      change(was, child);
    }
  }
  while (parent.childNodes.length > children.length) parent.lastChild.remove();
}

/** Attributes that belong to the reader. */
const KEPT = ['open'];

function change(was, now) {
  if (!(was instanceof Element)) {
    if (was.data !== now.data) was.data = now.data;
    return;
  }
  for (const { name } of [...was.attributes]) {
    if (!now.hasAttribute(name) && !KEPT.includes(name)) was.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (was.getAttribute(name) === value || KEPT.includes(name)) continue;
    // The page's policy forbids style attributes, but not the style object.
    if (name === 'style') was.style.cssText = now.style.cssText;
    else was.setAttribute(name, value);
  }
  show(was, [...now.childNodes]);
}
