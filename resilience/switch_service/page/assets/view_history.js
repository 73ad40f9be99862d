// Every version: who, when, why, what; what it differs in from the present one; the way back.

import { h, fill } from "./dom.js";
import { history as earlier, past, rollback } from "./api.js";
import { changing } from "./changing.js";
import { differences } from "./diff.js";
import { button, diff, nothing, when } from "./parts.js";

export function history(site) {
  if (site.history.length === 0) return [h("h2", {}, "History"), nothing("Nothing was changed yet.")];
  const more = site.history.at(-1).version > 1;
  return [
    h("h2", {}, "History"),
    h("ol", { class: "cards wide", reversed: true }, site.history.map((each) => card(site, each))),
    more && button("Show earlier ones", () => further(site), { key: "earlier" }),
  ];
}

async function further(site) {
  site.older = [...site.older, ...(await earlier(site.scope, site.history.at(-1).version))];
  await site.refresh();
}

function card(site, version) {
  const number = version.version;
  const current = number === site.document.version;
  const beside = h("div", { "aria-live": "polite" });
  return h(
    "li",
    { class: "card", "data-version": number },
    h("div", { class: "card-head" }, h("h3", {}, `Version ${number}`), current && h("span", { class: "state" }, "in force"), version.action !== "change" && h("span", { class: "state" }, version.action)),
    h("p", { class: "why" }, version.why),
    h("p", { class: "meta" }, when(version.at), " by ", h("b", {}, version.who), `, epoch ${version.epoch}`),
    version.changes.map((each) => diff(each)),
    !current &&
      h(
        "div",
        { class: "buttons" },
        button("Compare with now", () => compared(site, number, beside), { key: `compare ${number}`, label: `Compare version ${number} with the present one` }),
        site.may && button("Go back to this", () => back(site, number), { key: `back ${number}`, label: `Go back to version ${number}` }),
      ),
    beside,
  );
}

async function compared(site, number, beside) {
  try {
    const then = await past(site.scope, number);
    const found = differences(then.items, site.document.items);
    fill(beside, h("p", { class: "hint" }, found.length > 0 ? `From version ${number} to the present one:` : "Both hold the same."), found.map((each) => diff(each)));
  } catch (error) {
    fill(beside, h("p", { class: "wrong" }, error.message));
  }
}

async function back(site, number) {
  let then;
  try {
    then = await past(site.scope, number);
  } catch (error) {
    site.trouble(error);
    return;
  }
  changing(site, {
    title: `Go back to version ${number}`,
    body: h("p", {}, "What it held becomes the next version; the history stays whole."),
    action: `Go back to version ${number}`,
    danger: true,
    preview: () => differences(site.document.items, then.items),
    send: (base, reason) => rollback(site.scope, { base, to: number, reason }),
  });
}
