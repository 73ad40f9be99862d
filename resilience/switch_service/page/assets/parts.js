// Pieces that several views are made of.

import { h } from "./dom.js";
import { compare } from "./diff.js";
import { ago, clock } from "./format.js";

export function when(text) {
  const at = Date.parse(text);
  if (Number.isNaN(at)) return h("span", {}, "at an unknown time");
  return h("time", { datetime: new Date(at).toISOString(), title: clock(text) }, ago(text, Date.now()));
}

export function level(name) {
  const known = ["normal", "warning", "error", "severe"].includes(name);
  return h("span", { class: `level ${known ? `level-${name}` : ""}` }, name);
}

export function button(text, onclick, { key, kind = "", label, disabled = false } = {}) {
  return h("button", { type: "button", class: kind, onclick, "data-key": key, "aria-label": label, disabled }, text);
}

// What a change does to one item, line by line; what goes is marked in words and signs too, not by colour alone.
export function diff(change) {
  const lines = compare(change.old, change.new);
  const what = change.old === undefined || change.old === null ? "new" : change.new === undefined || change.new === null ? "removed" : "";
  return h(
    "div",
    { class: "diff" },
    h("p", { class: "diff-name" }, `${change.section} › ${change.name}`, what && h("em", {}, ` ${what}`)),
    h(
      "ul",
      {},
      lines.flatMap((line) => [
        line.old !== undefined && h("li", { class: "gone" }, h("span", { class: "sign" }, "− was "), h("code", {}, named(line, line.old))),
        line.new !== undefined && h("li", { class: "come" }, h("span", { class: "sign" }, "+ is "), h("code", {}, named(line, line.new))),
      ]),
    ),
  );
}

function named(line, value) {
  return line.path === "" ? value : `${line.path} = ${value}`;
}

export function nothing(text) {
  return h("p", { class: "nothing" }, text);
}

export function field(label, control, hint) {
  const id = control.id || `field-${Math.random().toString(36).slice(2)}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
}

export function choices(legend, name, options, chosen, onchange) {
  return h(
    "fieldset",
    { class: "choices" },
    h("legend", {}, legend),
    options.map(([value, text]) => {
      const radio = h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onchange(value) });
      return h("label", {}, radio, text);
    }),
  );
}
