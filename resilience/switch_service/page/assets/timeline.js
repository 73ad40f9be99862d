// Levels and signals over time, ready to be drawn. No element is made here.

import { worst } from "./model.js";

const ORDER = 4; // signals drawn at most; the table has all

// -> {resource: [{at, level}]}: at each change the worst level of all instances
export function steps(changes) {
  const now = new Map();
  const found = {};
  for (const each of changes) {
    const of = now.get(each.resource) ?? new Map();
    now.set(each.resource, of.set(each.instance, each.level));
    const level = worst([...of.values()]);
    const line = (found[each.resource] ??= []);
    if (line.length === 0 || line.at(-1).level !== level) line.push({ at: Date.parse(each.at), level });
  }
  return found;
}

// Signals are numbers beside a level: a share, a count, a time. -> [{name, points: [{at, value}], most}]
export function signals(samples) {
  const found = new Map();
  for (const { at, sample } of samples) {
    for (const [name, value] of Object.entries(sample ?? {})) {
      if (typeof value !== "number" || !Number.isFinite(value)) continue;
      if (!found.has(name)) found.set(name, []);
      found.get(name).push({ at, value });
    }
  }
  return [...found]
    .map(([name, points]) => ({ name, points, most: Math.max(...points.map((each) => each.value)) }))
    .sort((a, b) => Number(b.most <= 1) - Number(a.most <= 1) || a.name.localeCompare(b.name))
    .slice(0, ORDER);
}

// Round moments between two others, about `most` of them.
export function ticks(from, to, most) {
  const minute = 60_000;
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440].map((each) => each * minute).find((each) => (to - from) / each <= most) ?? (to - from) / most;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}
