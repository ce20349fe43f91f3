/** Plots over time. */
import { count, h } from './format.js';
import uPlot from './vendor/uplot.js';

const COLOURS = ['#2d7dd2', '#d1495b', '#3a9d5d', '#b8860b', '#7b5ea7', '#00798c'];

/** Draws a plot, or gives an existing one its new data. */
export function plot(holder, before, title, names, data) {
  const width = Math.max(240, Math.min(640, holder.clientWidth / (holder.clientWidth > 640 ? 2 : 1) - 16));
  if (before !== null && before.names.join() === names.join() && before.width === width) {
    before.chart.setData(data);
    return before;
  }
  const place = before?.place ?? h('div', {}, h('h3', {}, title), h('div', {}));
  before?.chart.destroy();
  if (before === null) holder.append(place);
  const ink = getComputedStyle(document.body).color;
  const axis = { stroke: ink, grid: { stroke: `color-mix(in srgb, ${ink} 15%, transparent)` } };
  const options = {
    width,
    height: 180,
    series: [
      {},
      ...names.map((label, i) => ({ label, stroke: COLOURS[i % COLOURS.length], width: 2, spanGaps: true })),
    ],
    axes: [axis, { ...axis, size: 60, values: (_, ticks) => ticks.map((tick) => count(tick)) }],
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
    cursor: { drag: { x: false, y: false } },
  };
  return { chart: new uPlot(options, data, place.lastChild), place, names, width };
}
