// Which instances run which version right now, and how long each push took.

import { h } from "./dom.js";
import { delay, span } from "./format.js";
import { level, nothing, when } from "./parts.js";
import { spread, worst } from "./model.js";

const LATE = 30;

export function instances(site) {
  const { version, epoch } = site.document;
  const { heard, there, slowest } = spread(site.instances, epoch, version);
  return [
    h("h2", {}, "Instances"),
    h("p", { class: "big" }, `${there} of ${heard} run version ${version}`, slowest !== null && `; the slowest push took ${delay(slowest)}`),
    site.instances.length === 0
      ? nothing("No instance has reported in the last hour.")
      : h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Instances" }, h(
          "table",
          { class: "stack" },
          h("thead", {}, h("tr", {}, ["Instance", "Version", "Push took", "In force", "State", "Level", "Heard"].map((each) => h("th", { scope: "col" }, each)))),
          h("tbody", {}, site.instances.map((each) => row(each, epoch, version))),
        )),
  ];
}

function row(each, epoch, version) {
  const behind = each.epoch !== epoch || each.version !== version;
  const silent = each.seen_s >= LATE;
  const levels = Object.values(each.levels);
  return h(
    "tr",
    { class: silent ? "silent" : behind ? "behind" : "", "data-instance": each.instance },
    h("th", { scope: "row", "data-label": "Instance" }, each.instance),
    h("td", { "data-label": "Version" }, `${each.version}`, behind && h("b", {}, ` (not ${version})`)),
    h("td", { "data-label": "Push took" }, delay(each.delay_s)),
    h("td", { "data-label": "In force" }, each.applied_at === "" ? "never" : when(each.applied_at)),
    h("td", { "data-label": "State" }, each.state),
    h("td", { "data-label": "Level" }, levels.length === 0 ? "none" : level(worst(levels))),
    h("td", { "data-label": "Heard" }, silent ? h("b", {}, `silent for ${span(each.seen_s)}`) : `${span(each.seen_s)} ago`),
  );
}
