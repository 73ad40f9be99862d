// The door: a token is changed for a session.

import { h, fill } from "./dom.js";
import { logIn } from "./api.js";
import { field } from "./parts.js";

export function login(content, entered, why = "") {
  const token = h("input", { type: "password", required: true, autocomplete: "current-password", autocapitalize: "off", spellcheck: "false", "data-name": "token" });
  const wrong = h("div", { class: "wrong", role: "alert" }, why && h("p", {}, why));
  const submit = h("button", { type: "submit", class: "main" }, "Log in");
  const form = h(
    "form",
    { class: "card login", novalidate: true },
    h("h2", {}, "Log in"),
    field("Token", token, "It begins with bst_. The page keeps a session, not the token."),
    wrong,
    h("div", { class: "buttons" }, submit),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const session = await logIn(token.value.trim());
      token.value = "";
      await entered(session);
    } catch (error) {
      fill(wrong, h("p", {}, `Not logged in: ${error.message}.`));
      token.focus();
    } finally {
      submit.disabled = false;
    }
  });
  fill(content, form);
  token.focus();
}
