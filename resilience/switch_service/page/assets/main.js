// The page: who is here, which scope, which view.

import * as api from "./api.js";
import { closeDialog } from "./changing.js";
import { alarm, fill, h, redraw, say } from "./dom.js";
import { login } from "./login.js";
import { button } from "./parts.js";
import { Site } from "./site.js";
import { audit } from "./view_audit.js";
import { history } from "./view_history.js";
import { instances } from "./view_instances.js";
import { levels } from "./view_levels.js";
import { switches } from "./view_switches.js";

const VIEWS = { switches, levels, instances, history, audit };
const NAMES = { switches: "Switches", levels: "Levels", instances: "Instances", history: "History", audit: "Audit" };
const content = document.getElementById("content");
const place = document.getElementById("place");
const link = document.getElementById("link");
const account = document.getElementById("account");
const views = document.getElementById("views");
let site = null;

function view() {
  const asked = location.hash.slice(1);
  return Object.hasOwn(VIEWS, asked) && (asked !== "audit" || site?.session.role === "admin") ? asked : "switches";
}

function draw() {
  if (site === null || site.document.version === 0) return;
  const chosen = view();
  document.title = `${NAMES[chosen]}: ${site.scope}`;
  redraw(
    views,
    Object.keys(VIEWS)
      .filter((each) => each !== "audit" || site.session.role === "admin")
      .map((each) => h("a", { href: `#${each}`, "data-key": each, "aria-current": each === chosen ? "page" : undefined }, NAMES[each])),
  );
  redraw(content, VIEWS[chosen](site));
}

function linked(alive) {
  fill(link, h("span", { class: alive ? "live" : "lost" }, alive ? "Live" : "Connection lost"));
  alarm(alive ? "" : "Connection lost. What you see may be old. It is tried again by itself.");
  document.body.classList.toggle("is-lost", !alive);
}

function trouble(error) {
  if (error.status === 401) leave("Your session has ended; log in again.");
  else if (error.status !== 0) alarm(error.message);
}

function leave(why = "") {
  site?.close();
  site = null;
  closeDialog();
  alarm("");
  for (const each of [place, link, account, views]) fill(each);
  views.hidden = true;
  document.body.classList.remove("is-lost");
  document.title = "Switches";
  login(content, enter, why);
}

async function enter(session) {
  const scopes = await api.scopes();
  fill(
    account,
    h("span", {}, `${session.name} (${session.role})`),
    button("Log out", async () => {
      await api.logOut().catch(() => null); // the cookie ends by itself at the latest
      leave();
    }),
  );
  if (scopes.length === 0) {
    fill(content, h("p", {}, "There is no scope yet that your token reaches. The first change makes one: backstay switches set shop/production NAME on --reason ... Then load this page again."));
    return;
  }
  const wanted = new URLSearchParams(location.search).get("scope");
  const chosen = scopes.some((each) => each.scope === wanted) ? wanted : scopes[0].scope;
  const select = h("select", { id: "scope", onchange: () => show(select.value, session) }, scopes.map((each) => h("option", { value: each.scope }, each.scope)));
  select.value = chosen;
  fill(place, h("label", { for: "scope", class: "unseen" }, "Scope"), select);
  views.hidden = false;
  show(chosen, session);
}

function show(scope, session) {
  site?.close();
  remember(scope);
  fill(content, h("p", { class: "nothing" }, "Reading …"));
  site = new Site(scope, session, { changed: draw, linked, trouble });
}

function remember(scope) {
  const url = new URL(location.href);
  url.searchParams.set("scope", scope);
  window.history.replaceState(null, "", url);
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#content") return;
  draw();
  say(NAMES[view()]);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

try {
  await enter(await api.session());
} catch (error) {
  leave(error.status === 401 || error.status === undefined ? "" : error.message);
}
