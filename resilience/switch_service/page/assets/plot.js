// One resource over time: its level as a step line, and below it the signals that it was judged by.

import { h, s } from "./dom.js";
import { LEVELS, rank } from "./model.js";
import { signals, ticks } from "./timeline.js";

const LEFT = 64;
const RIGHT = 12;
const TOP = 12;
const ROW = 26;
const GAP = 24;
const HIGH = 84;
const BOTTOM = TOP + 3 * ROW;

export function plot(resource, line, samples, from, to, room) {
  const width = Math.min(1100, Math.max(260, room)); // units are pixels, so that texts keep their size on a phone
  const drawn = signals(samples);
  const height = BOTTOM + (drawn.length > 0 ? GAP + HIGH : 0) + 26;
  const x = (at) => LEFT + ((Math.min(Math.max(at, from), to) - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (level) => BOTTOM - rank(level) * ROW;
  const latest = line.at(-1)?.level ?? "normal";
  const label = `Level of ${resource} over the time shown; now ${latest}; ${line.length} changes. The table below has the same.`;
  return h(
    "figure",
    {},
    s(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" },
      LEVELS.map((level) => [
        s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(level), y2: y(level) }),
        s("text", { x: LEFT - 8, y: y(level) + 4, "text-anchor": "end" }, level),
      ]),
      ticks(from, to, width < 500 ? 4 : 7).map((at) => [
        s("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: height - 22 }),
        s("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hour12: false })),
      ]),
      stretches(line, from, to).map((each) => [
        s("rect", { class: `area area-${each.level}`, x: x(each.from), width: Math.max(0.5, x(each.to) - x(each.from)), y: y(each.level), height: Math.max(1, BOTTOM - y(each.level)) }),
        s("line", { class: "step", x1: x(each.from), x2: x(each.to), y1: y(each.level), y2: y(each.level) }),
        each.before !== null && s("line", { class: "step", x1: x(each.from), x2: x(each.from), y1: y(each.before), y2: y(each.level) }),
      ]),
      drawn.map((signal, index) => trace(signal, index, x, BOTTOM + GAP)),
    ),
    drawn.length > 0 &&
      h("figcaption", {}, h("ul", { class: "legend" }, drawn.map((each, index) =>
        h("li", {}, s("svg", { viewBox: "0 0 28 10", "aria-hidden": "true", class: "key" }, s("line", { class: `trace trace-${index}`, x1: 0, x2: 28, y1: 5, y2: 5 })), `${each.name} (0 to ${most(each)})`),
      ))),
  );
}

function stretches(line, from, to) {
  const found = [];
  let level = "normal";
  let at = from;
  let before = null;
  for (const each of line) {
    if (each.at > from) {
      found.push({ from: at, to: each.at, level, before });
      before = level;
      at = each.at;
    }
    level = each.level;
  }
  found.push({ from: at, to, level, before });
  return found;
}

function top(signal) {
  return signal.most <= 0 ? 1 : signal.most <= 1 ? 1 : signal.most;
}

function most(signal) {
  return top(signal) === 1 ? "1" : String(Math.round(top(signal) * 100) / 100);
}

function trace(signal, index, x, above) {
  const y = (value) => above + HIGH - (Math.max(0, value) / top(signal)) * HIGH;
  const points = signal.points.map((each) => [x(each.at), y(each.value)].map((n) => n.toFixed(1)));
  return [
    s("polyline", { class: `trace trace-${index}`, points: points.map((each) => each.join(",")).join(" ") }),
    points.map(([cx, cy]) => s("circle", { class: `dot dot-${index}`, cx, cy, r: 3 })),
  ];
}
