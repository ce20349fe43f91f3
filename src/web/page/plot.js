/** Plots over time. */
import { clock, count, h } from './format.js';
import uPlot from './vendor/uplot.js';

const COLOURS = ['#2d7dd2', '#d1495b', '#3a9d5d', '#b8860b', '#7b5ea7', '#00798c'];

/**
 * Draws a plot, or gives an existing one its new data. `words` makes text of a value. A plot of values that differ by
 * orders of magnitude is `isLog`.
 */
export function plot(holder, before, { title, names, data, words = count, isLog = false }) {
  const width = Math.max(240, Math.min(640, holder.clientWidth / (holder.clientWidth > 640 ? 2 : 1) - 16));
  const ink = getComputedStyle(document.body).color;
  if (before !== null && before.names.join() === names.join() && before.width === width && before.ink === ink) {
    before.chart.setData(data);
    return before;
  }
  const place = before?.place ?? h('div', {}, h('h3', {}, title), h('div', {}));
  before?.chart.destroy();
  if (before === null) holder.append(place);
  const grid = { stroke: `color-mix(in srgb, ${ink} 15%, transparent)` };
  // Ticks without room for their words are null.
  const label = (tick) => (tick === null ? '' : words(tick));
  const options = {
    width,
    height: 180,
    series: [
      {},
      ...names.map((name, i) => ({ label: name, stroke: COLOURS[i % COLOURS.length], width: 2, spanGaps: true })),
    ],
    axes: [
      { stroke: ink, grid, space: 80, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, 8)) },
      { stroke: ink, grid, size: 64, values: (_, ticks) => ticks.map(label), ...(isLog && { splits: powersOfTen }) },
    ],
    scales: { y: isLog ? { distr: 3, range: decades } : { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    legend: { live: false },
    cursor: { show: false },
  };
  return { chart: new uPlot(options, data, place.lastChild), place, names, width, ink };
}

function powersOfTen(_, __, least, most) {
  const powers = [];
  for (let power = least; power <= most * 1.001; power *= 10) powers.push(power);
  return powers;
}

/** Whole powers of ten around the values; some for no values. */
function decades(_, least, most) {
  if (least === null || most === null) return [1, 1000];
  const low = 10 ** Math.floor(Math.log10(Math.max(least, 1e-3)));
  return [low, Math.max(10 * low, 10 ** Math.ceil(Math.log10(most)))];
}
