// Dialogs for switches.

import { h, fill } from "./dom.js";
import { change } from "./api.js";
import { changing } from "./changing.js";
import { ending } from "./ending.js";
import { choices, field } from "./parts.js";
import { bare, shares } from "./model.js";

export function turn(site, switched) {
  const next = { ...switched.value, enabled: !switched.enabled };
  edit(site, switched, next, `Turn ${next.enabled ? "on" : "off"} ${switched.name}`, false);
}

export function edit(site, switched, given = switched.value, title = `Change ${switched.name}`, all = true) {
  const value = structuredClone(given);
  delete value.until;
  delete value.reason;
  const body = all && h("div", {}, state(value), value.variants ? variants(value) : percentage(value));
  const end = ending({ kept: given.enabled === switched.enabled ? switched.until : null });
  send(site, switched.name, { title, body, end, read: () => tidy(value), danger: switched.enabled && !value.enabled });
}

export function add(site) {
  const name = h("input", { required: true, maxlength: 100, autocomplete: "off", spellcheck: "false", autofocus: true, "data-name": "name" });
  const value = { enabled: true };
  const text = h("textarea", { rows: 4, spellcheck: "false", "data-name": "variants", placeholder: '{"small": 20, "large": 100}' });
  const first = h("input", { autocomplete: "off", "data-name": "default" });
  const body = h(
    "div",
    {},
    field("Name", name, "Letters, digits and _ . - /"),
    state(value),
    h("details", {}, h("summary", {}, "It has variants"), field("Variants (JSON)", text), field("Default variant", first)),
  );
  const read = () => (text.value.trim() === "" ? tidy(value) : { ...value, variants: parsed(text.value), default: first.value.trim() });
  send(site, () => name.value.trim(), { title: "Add a switch", body, end: ending(), read });
}

export function remove(site, name) {
  changing(site, {
    title: `Remove ${name}`,
    body: h("p", {}, "Services fall back to the default in their code."),
    action: "Remove it",
    danger: true,
    preview: () => [{ section: "switches", name, old: site.document.items.switches?.[name], new: undefined }],
    send: (base, reason) => change(site.scope, { base, reason, until: null, changes: [{ section: "switches", name, remove: true }] }),
  });
}

function send(site, name, { title, body, end, read, danger }) {
  const called = typeof name === "function" ? name : () => name;
  const before = (value) => (value === undefined ? undefined : bare(value));
  changing(site, {
    title, body, end, danger,
    action: typeof name === "function" ? "Add it" : title,
    preview: () => [{ section: "switches", name: called(), old: before(site.document.items.switches?.[called()]), new: bare(read()) }],
    send: (base, reason, until) => {
      if (typeof name === "function" && site.document.items.switches?.[called()] !== undefined) throw new Error("there is such a switch already");
      return change(site.scope, { base, reason, until, changes: [{ section: "switches", name: called(), value: bare(read()) }] });
    },
  });
}

function state(value) {
  return choices("It is", "state", [["on", "on"], ["off", "off"]], value.enabled ? "on" : "off", (chosen) => {
    value.enabled = chosen === "on";
  });
}

function percentage(value) {
  const input = h("input", { type: "number", min: 0, max: 100, step: "any", value: value.percentage ?? 100, "data-name": "percentage" });
  input.addEventListener("input", () => {
    value.percentage = input.valueAsNumber;
  });
  return field("Percent of keys, while it is on", input);
}

function variants(value) {
  const rows = h("div", { class: "shares" });
  const draw = () =>
    fill(
      rows,
      shares(value).map((each) => {
        const input = h("input", { type: "number", min: 0, max: 100, step: "any", value: each.percent, disabled: each.fallback, "data-name": `share-${each.name}` });
        input.addEventListener("input", () => {
          value.split = { ...value.split, [each.name]: input.valueAsNumber };
          delete value.split[value.default];
        });
        return field(`${each.name}, percent${each.fallback ? " (default: what is left)" : ""}`, input, `is ${JSON.stringify(each.value)}`);
      }),
    );
  const names = Object.keys(value.variants);
  const first = h("select", { value: value.default, "data-name": "default" }, names.map((each) => h("option", { value: each }, each)));
  first.value = value.default;
  first.addEventListener("change", () => {
    value.default = first.value;
    value.split = { ...value.split };
    delete value.split[value.default];
    draw();
  });
  draw();
  return h("div", {}, field("Default variant", first), rows);
}

function tidy(value) {
  const made = { ...value };
  if (made.percentage === 100 || made.percentage === null) delete made.percentage;
  for (const each of [made.percentage ?? 0, ...Object.values(made.split ?? {})]) {
    if (Number.isNaN(each)) throw new Error("a percentage is a number from 0 to 100");
  }
  if (made.split !== undefined) {
    made.split = Object.fromEntries(Object.entries(made.split).filter(([, share]) => share !== 0));
    const given = Object.values(made.split).reduce((sum, each) => sum + each, 0);
    if (given > 100) throw new Error(`the shares sum to ${given} percent`);
    if (Object.keys(made.split).length === 0) delete made.split;
    else if (made.split[made.default] !== undefined && given < 100) delete made.split[made.default];
  }
  return made;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error("the variants are no JSON");
  }
}
