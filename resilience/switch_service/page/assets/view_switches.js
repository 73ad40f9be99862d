// What is on, since when, by whom, why.

import { h } from "./dom.js";
import { delay, left, short } from "./format.js";
import { button, nothing, when } from "./parts.js";
import { origin, shares, spread, standing } from "./model.js";
import { add, edit, remove, turn } from "./switching.js";

export function switches(site) {
  const items = site.document.items.switches ?? {};
  const names = Object.keys(items).sort();
  return [
    h("div", { class: "head" }, h("h2", {}, "What is on"), site.may && button("Add a switch", () => add(site), { key: "add" })),
    running(site),
    names.length === 0
      ? nothing("No switch is set: services run with the defaults in their code.")
      : h("ul", { class: "cards" }, names.map((name) => card(site, standing(name, items[name], Date.now())))),
    pipelines(site),
  ];
}

function running(site) {
  const { version, epoch } = site.document;
  const { heard, there, slowest } = spread(site.instances, epoch, version);
  if (heard === 0) return h("p", { class: "hint" }, `Version ${version}. No instance reports.`);
  const late = heard - there;
  const told = slowest === null ? "" : `, slowest push ${delay(slowest)}`;
  return h("p", { class: late > 0 ? "late" : "hint", id: "running" }, `Version ${version}: ${there} of ${heard} instances run it${told}.`);
}

function card(site, switched) {
  const { name } = switched;
  const from = origin(site.history, "switches", name);
  const key = (what) => `${what} ${name}`;
  const label = `${name}: ${switched.text}. ${switched.enabled ? "Turn off" : "Turn on"}`;
  const toggle = h(
    "button",
    { type: "button", role: "switch", class: "toggle", "aria-checked": String(switched.enabled), "aria-label": label, "data-key": key("turn"), disabled: !site.may, onclick: () => turn(site, switched) },
    h("span", { class: "knob", "aria-hidden": "true" }),
  );
  return h(
    "li",
    { class: `card ${switched.over ? "card-over" : switched.enabled ? "card-on" : "card-off"}`, "data-switch": name },
    h("div", { class: "card-head" }, toggle, h("h3", {}, name), h("span", { class: "state" }, switched.text)),
    switched.over && h("p", { class: "late" }, "Its time has passed: services use the default in their code."),
    switched.reason !== "" && h("p", { class: "why" }, switched.reason),
    h(
      "p",
      { class: "meta" },
      from === undefined
        ? "Set before the latest 200 versions"
        : ["Set ", when(from.at), " by ", h("b", {}, from.who), `, version ${from.version}`],
      switched.until !== null && !switched.over && [" · ", h("span", { class: "until" }, left(switched.until, Date.now()))],
    ),
    switched.variants !== null && split(switched),
    site.may &&
      h(
        "div",
        { class: "buttons" },
        button("Change", () => edit(site, switched), { key: key("edit"), label: `Change ${name}` }),
        button("Remove", () => remove(site, name), { key: key("remove"), label: `Remove ${name}` }),
      ),
  );
}

function split(switched) {
  return h(
    "table",
    { class: "small" },
    h("caption", { class: "unseen" }, `Variants of ${switched.name}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Variant"), h("th", { scope: "col" }, "Value"), h("th", { scope: "col" }, "Share"))),
    h("tbody", {}, shares(switched.value).map((each) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, each.name, each.fallback && " (default)"),
        h("td", {}, h("code", {}, short(each.value))),
        h("td", {}, `${each.percent} % `, h("progress", { max: 100, value: each.percent, "aria-hidden": "true" })),
      ),
    )),
  );
}

function pipelines(site) {
  const items = site.document.items.pipelines ?? {};
  const names = Object.keys(items).sort();
  if (names.length === 0) return null;
  return h(
    "section",
    {},
    h("h2", {}, "Settings of pipelines"),
    h("ul", { class: "cards" }, names.map((name) =>
      h("li", { class: "card" }, h("h3", {}, name), h("pre", { tabindex: 0, "aria-label": `Settings of ${name}` }, JSON.stringify(items[name], null, 1))),
    )),
  );
}
