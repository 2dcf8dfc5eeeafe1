"use strict";
// Elements and numbers. Data becomes text nodes and attributes of charts, and nothing else.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)}\u00a0%`);
const points = (gain) => `${gain < 0 ? "−" : "+"}${Math.abs(100 * gain).toFixed(1)}`;
const count = (number) => (number === null || number === undefined ? "–" : Math.round(number).toLocaleString("en-US"));
const between = (low, high) => `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)}`;
const money = (usd) => (usd === null || usd === undefined ? "–" : `$${usd < 1 ? usd.toFixed(4) : usd.toFixed(2)}`);
const plural = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

// What the page shows.
let content = JSON.parse(document.getElementById("content").textContent);

function showTip(told, at) {
  const tip = document.getElementById("tip");
  tip.replaceChildren(...told.flat(Infinity).filter((each) => each !== null && each !== undefined));
  tip.hidden = false;
  const box = at.getBoundingClientRect(), own = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - own.width / 2, innerWidth - own.width - 8))}px`;
  tip.style.top = `${box.top > own.height + 14 ? box.top - own.height - 8 : box.bottom + 8}px`;
}
function hideTip() { document.getElementById("tip").hidden = true; }

const table = (kind, heads, rows, foot, caption) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
  el("table", { class: kind }, el("thead", null, el("tr", null, heads)), el("tbody", null, rows), foot && el("tfoot", null, foot)));
const head = (text, numeric, extra) => el("th", { scope: "col", class: numeric ? "number" : null, ...extra }, text);
const number = (text, label) => el("td", { class: "number", "data-label": label }, text);

function section(id, title, about, ...parts) {
  return el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), about && el("p", { class: "about" }, about), parts);
}

// What is folded is printed, too.
function unfoldOnPaper(selector) {
  let opened = [];
  addEventListener("beforeprint", () => { opened = [...document.querySelectorAll(`${selector}:not([open])`)]; opened.forEach((each) => { each.open = true; }); });
  addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
}
