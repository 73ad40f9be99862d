// What a switch is and what has become of it. No element is made here.

export const LEVELS = ["normal", "warning", "error", "severe"];

export function table(value) {
  return typeof value === "boolean" ? { enabled: value } : { ...value };
}

export function standing(name, value, now) {
  const entries = table(value);
  const enabled = entries.enabled !== false;
  const over = typeof entries.until === "string" && Date.parse(entries.until) <= now;
  return {
    name,
    value: entries,
    enabled,
    over,
    until: entries.until ?? null,
    reason: entries.reason ?? "",
    variants: entries.variants ?? null,
    text: over ? "over" : told(entries, enabled),
  };
}

function told(entries, enabled) {
  if (!enabled) return entries.variants ? `Off: ${entries.off || entries.default}` : "Off";
  if (entries.variants) return Object.keys(entries.split ?? {}).length > 0 ? "Split" : `${entries.default}`;
  return entries.percentage === undefined || entries.percentage === null ? "On" : `On ${entries.percentage} %`;
}

// Percent by variant; what is missing to 100 belongs to the default.
export function shares(value) {
  const split = value.split ?? {};
  const given = Object.values(split).reduce((sum, each) => sum + each, 0);
  return Object.keys(value.variants ?? {}).map((name) => ({
    name,
    value: value.variants[name],
    percent: split[name] ?? (name === value.default ? round(100 - given) : 0),
    fallback: name === value.default,
  }));
}

function round(number) {
  return Math.round(number * 1000) / 1000;
}

// The latest version that changed this item, or undefined if it is older than the history at hand.
export function origin(history, section, name) {
  return history.find((each) => each.changes.some((change) => change.section === section && change.name === name));
}

// A value as it is sent: reason and end are given beside it, and would win if they stood in it.
export function bare(value) {
  const { reason, until, ...rest } = table(value);
  return Object.keys(rest).length === 1 && typeof rest.enabled === "boolean" ? rest.enabled : rest;
}

export function worst(levels) {
  return levels.reduce((high, each) => (rank(each) > rank(high) ? each : high), "normal");
}

export function rank(level) {
  return Math.max(0, LEVELS.indexOf(level));
}

// -> {behind, slowest} of the instances for the version in force
export function spread(instances, epoch, version) {
  const heard = instances.filter((each) => each.seen_s < 30);
  const there = heard.filter((each) => each.epoch === epoch && each.version === version);
  const delays = there.map((each) => each.delay_s).filter((each) => typeof each === "number" && each >= 0);
  return { heard: heard.length, there: there.length, slowest: delays.length > 0 ? Math.max(...delays) : null };
}
