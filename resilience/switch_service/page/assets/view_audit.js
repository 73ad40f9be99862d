// Who did or tried what: for admins, refused attempts included.

import { h } from "./dom.js";
import { nothing, when } from "./parts.js";

export function audit(site) {
  return [
    h("h2", {}, "Audit"),
    site.audit.length === 0
      ? nothing("Nothing was done or tried yet.")
      : h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Audit" }, h(
          "table",
          { class: "stack" },
          h("thead", {}, h("tr", {}, ["When", "Who", "What", "Where", "Outcome", "Why", "From"].map((each) => h("th", { scope: "col" }, each)))),
          h("tbody", {}, site.audit.map((each) =>
            h(
              "tr",
              { class: each.outcome === "done" ? "" : "behind" },
              h("td", { "data-label": "When" }, when(each.at)),
              h("td", { "data-label": "Who" }, each.who || "unknown"),
              h("td", { "data-label": "What" }, each.action),
              h("td", { "data-label": "Where" }, each.scope),
              h("td", { "data-label": "Outcome" }, each.outcome),
              h("td", { "data-label": "Why" }, each.why),
              h("td", { "data-label": "From" }, each.address),
            ),
          )),
        )),
  ];
}
