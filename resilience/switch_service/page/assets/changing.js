// The dialog in which a change is made: what, why, how long; and what to do when somebody else was faster.

import { h, fill, say } from "./dom.js";
import { differences } from "./diff.js";
import { button, diff, field } from "./parts.js";

let open = null;

// send(base, reason, until) -> promise; preview() -> what would change, or null
export function changing(site, { title, body, action, danger = false, end = null, preview = null, send }) {
  if (open !== null) open.close();
  let base = site.document.version;
  const seen = site.document.items;
  const reason = h("textarea", { rows: 2, maxlength: 500, required: true, "data-name": "reason" });
  const wrong = h("div", { class: "wrong", role: "alert" });
  const shown = h("div", { class: "preview", "aria-live": "polite" });
  const submit = h("button", { type: "submit", class: danger ? "danger" : "main" }, action);
  const form = h(
    "form",
    { novalidate: true },
    h("h2", { id: "dialog-title" }, title),
    body,
    field("Why (needed)", reason, "It stands in the history and is what others read at night."),
    end?.element,
    shown,
    wrong,
    h("div", { class: "buttons" }, submit, button("Cancel", () => dialog.close())),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  const before = document.activeElement?.dataset?.key;

  const look = () => {
    try {
      fill(shown, preview?.().map((each) => diff(each)) ?? "");
    } catch (error) {
      fill(shown);
    }
  };
  form.addEventListener("input", look);
  form.addEventListener("change", look);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    fill(wrong);
    reason.removeAttribute("aria-invalid");
    if (reason.value.trim() === "") {
      reason.setAttribute("aria-invalid", "true");
      fill(wrong, h("p", {}, "Say why: a short reason is needed."));
      reason.focus();
      return;
    }
    submit.disabled = true;
    try {
      const done = await send(base, reason.value.trim(), end?.read() ?? null);
      dialog.close();
      say(done.changes.length > 0 ? `Done: version ${done.version}` : "Nothing was to change");
      await site.refresh();
    } catch (error) {
      if (error.status === 409) await conflict();
      else fill(wrong, h("p", {}, `Not done: ${error.message}.`));
    } finally {
      submit.disabled = false;
    }
  });

  // Nothing was written. Show what others changed since the dialog was opened, and let a human decide again.
  async function conflict() {
    try {
      await site.refresh();
    } catch (error) {
      fill(wrong, h("p", {}, `Not done: somebody else changed it meanwhile, and ${error.message}.`));
      return;
    }
    base = site.document.version;
    const by = [...new Set(site.history.filter((each) => each.version <= base).slice(0, 1).map((each) => `${each.who}: ${each.why}`))];
    fill(
      wrong,
      h("p", {}, `Not done: meanwhile there is version ${base}${by.length > 0 ? ` (${by[0]})` : ""}. It changed:`),
      differences(seen, site.document.items).map((each) => diff(each)),
      h("p", {}, "If your change is still right, send it again."),
    );
    submit.textContent = `${action}, on top of version ${base}`;
    look();
    submit.focus();
  }

  dialog.addEventListener("close", () => {
    dialog.remove();
    open = null;
    if (before !== undefined) {
      for (const each of document.querySelectorAll("[data-key]")) if (each.dataset.key === before) each.focus();
    }
  });
  open = dialog;
  document.body.append(dialog);
  dialog.showModal();
  look();
  (dialog.querySelector("[autofocus]") ?? reason).focus();
}

export function closeDialog() {
  open?.close();
}
