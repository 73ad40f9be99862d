// Until when a change lasts.

import { h } from "./dom.js";
import { field } from "./parts.js";

const SPANS = [
  ["", "until it is changed again"],
  ["15", "15 minutes"],
  ["60", "1 hour"],
  ["240", "4 hours"],
  ["720", "12 hours"],
  ["other", "a time of my own"],
];

export function ending({ needed = false, kept = null } = {}) {
  const spans = needed ? SPANS.slice(1) : SPANS;
  const offered = kept !== null && Date.parse(kept) > Date.now() ? [["kept", "as it is: until " + new Date(kept).toLocaleString()], ...spans] : spans;
  const select = h("select", { "data-name": "ending" }, offered.map(([value, text]) => h("option", { value }, text)));
  select.value = offered[0][0] === "15" ? "60" : offered[0][0];
  const own = h("input", { type: "datetime-local", "data-name": "until" });
  const ownField = field("Time (of this device)", own);
  ownField.hidden = true;
  select.addEventListener("change", () => {
    ownField.hidden = select.value !== "other";
  });
  return {
    element: h("div", {}, field("How long", select, "Then it counts no more, and services fall back to their default."), ownField),
    // null, or RFC 3339; throws a text for people
    read() {
      if (select.value === "") return null;
      if (select.value === "kept") return kept;
      if (select.value !== "other") return new Date(Date.now() + Number(select.value) * 60_000).toISOString();
      const at = Date.parse(own.value);
      if (Number.isNaN(at)) throw new Error("say until when");
      if (at <= Date.now()) throw new Error("that time has passed already");
      return new Date(at).toISOString();
    },
  };
}
