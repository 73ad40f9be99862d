// Elements are made one by one and texts are set as texts: nothing that a server says is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function s(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

// Draws anew and leaves the focus where it was: parts that take the focus carry a data-key.
export function redraw(element, ...children) {
  const focused = document.activeElement;
  const key = element.contains(focused) ? focused.dataset.key : undefined;
  const open = new Set([...element.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  fill(element, ...children);
  for (const each of element.querySelectorAll("details")) if (open.has(each.dataset.key)) each.open = true;
  if (key === undefined) return;
  for (const each of element.querySelectorAll("[data-key]")) {
    if (each.dataset.key === key) each.focus({ preventScroll: true });
  }
}

export function say(text) {
  document.getElementById("told").textContent = text;
}

export function alarm(text) {
  document.getElementById("alarm").textContent = text;
}
