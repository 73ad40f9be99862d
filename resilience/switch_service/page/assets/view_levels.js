// At which level each resource is, what holds it there, and how it came to it.

import { h } from "./dom.js";
import { change } from "./api.js";
import { changing } from "./changing.js";
import { ending } from "./ending.js";
import { left, short } from "./format.js";
import { LEVELS, worst } from "./model.js";
import { button, field, level, nothing, when } from "./parts.js";
import { plot } from "./plot.js";
import { steps } from "./timeline.js";

export const HOURS = 3;

export function levels(site) {
  const items = site.document.items.levels ?? {};
  const reported = new Map();
  for (const each of site.instances) {
    for (const [resource, at] of Object.entries(each.levels)) reported.set(resource, [...(reported.get(resource) ?? []), { at, instance: each }]);
  }
  const names = [...new Set([...Object.keys(items), ...reported.keys(), ...site.levels.map((each) => each.resource)])].sort();
  const lines = steps(site.levels);
  return [
    h("div", { class: "head" }, h("h2", {}, "Levels"), site.may && button("Pin a level", () => pin(site, "", {}), { key: "pin" })),
    names.length === 0
      ? nothing("No instance reports a level, and none is set by hand.")
      : h("ul", { class: "cards wide" }, names.map((name) => card(site, name, items[name], reported.get(name) ?? [], lines[name] ?? []))),
  ];
}

function card(site, name, set, reported, line) {
  const now = worst(reported.map((each) => each.at));
  const changes = site.levels.filter((each) => each.resource === name);
  const to = Date.now();
  const present = reported.map((each) => ({ at: to - each.instance.seen_s * 1000, sample: each.instance.signals[name] }));
  const samples = [...changes.map((each) => ({ at: Date.parse(each.at), sample: each.sample })), ...present.slice(0, 1)];
  const pinned = set?.pin ?? null;
  return h(
    "li",
    { class: "card", "data-resource": name },
    h("div", { class: "card-head" }, h("h3", {}, name), level(reported.length > 0 ? now : "not reported")),
    h("p", { class: "meta" }, tally(reported), changes.length > 0 && ["; changed ", when(changes.at(-1).at), `: ${changes.at(-1).cause || "no cause told"}`]),
    set?.force && h("p", { class: "late" }, `Forced by hand to ${short(set.force)} until it is taken away.`),
    pinned !== null && h("p", { class: "late" }, `Pinned by hand to ${short(pinned.level)}`, pinned.until && `, ${left(pinned.until, to)}`, "."),
    set?.reason && h("p", { class: "why" }, set.reason),
    site.may &&
      h(
        "div",
        { class: "buttons" },
        button("Pin", () => pin(site, name, set ?? {}), { key: `pin ${name}`, label: `Pin the level of ${name}` }),
        (pinned !== null || set?.force) && button("Let it go", () => free(site, name, set), { key: `free ${name}`, label: `Let the level of ${name} go` }),
      ),
    plot(name, line, samples, to - HOURS * 3600_000, to, document.getElementById("content").clientWidth - 70),
    table(name, changes),
  );
}

function tally(reported) {
  const counts = LEVELS.map((each) => [each, reported.filter((one) => one.at === each).length]).filter(([, count]) => count > 0);
  return counts.length === 0 ? "No instance reports" : counts.map(([each, count]) => `${count} ${count === 1 ? "instance" : "instances"} at ${each}`).join(", ");
}

function table(name, changes) {
  if (changes.length === 0) return null;
  const rows = changes.slice(-50).reverse();
  return h(
    "details",
    { "data-key": `changes ${name}` },
    h("summary", { "data-key": `changes of ${name}` }, `Changes as a table (${rows.length})`),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Changes of ${name}` }, h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["When", "Level", "Cause", "Signals", "Instance"].map((each) => h("th", { scope: "col" }, each)))),
      h("tbody", {}, rows.map((each) =>
        h("tr", {}, h("td", {}, when(each.at)), h("td", {}, level(each.level)), h("td", {}, each.cause), h("td", {}, h("code", {}, short(each.sample))), h("td", {}, each.instance)),
      )),
    )),
  );
}

function pin(site, name, set) {
  const resource = h("input", { value: name, required: true, maxlength: 100, autocomplete: "off", autofocus: name === "", readonly: name !== "", "data-name": "resource" });
  const chosen = h("select", { "data-name": "level", autofocus: name !== "" }, LEVELS.map((each) => h("option", { value: each }, each)));
  chosen.value = set.pin?.level ?? "severe";
  const { reason, ...rest } = set; // the one of the change takes its place
  const value = () => ({ ...rest, pin: { level: chosen.value } });
  changing(site, {
    title: name === "" ? "Pin a level" : `Pin the level of ${name}`,
    body: h("div", {}, field("Resource", resource), field("Level", chosen)),
    end: ending({ needed: true }),
    action: "Pin it",
    danger: true,
    preview: () => [{ section: "levels", name: resource.value.trim(), old: set, new: value() }],
    send: (base, reason, until) => put(site, base, reason, until, { name: resource.value.trim(), value: value() }),
  });
}

function free(site, name, set) {
  const { pin, force, reason, ...rest } = set;
  const change = Object.keys(rest).length === 0 ? { name, remove: true } : { name, value: rest };
  changing(site, {
    title: `Let the level of ${name} go`,
    body: h("p", {}, "It follows its signals again."),
    action: "Let it go",
    preview: () => [{ section: "levels", name, old: set, new: change.value }],
    send: (base, reason) => put(site, base, reason, null, change),
  });
}

function put(site, base, reason, until, item) {
  return change(site.scope, { base, reason, until, changes: [{ section: "levels", ...item }] });
}
