// What charts are made of: small SVG, drawn at the width that there is, so that their text keeps its size.

function ticks(low, high, about) {
  const raw = (high - low) / about || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
  const all = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) all.push(Number(at.toPrecision(12)));
  return all;
}

function frame(width, { height, x, y, xName, yName, xText = count, xTicks, label }) {
  const left = 46, right = 14, top = 22, bottom = 44;
  const X = (value) => left + ((width - left - right) * (value - x[0])) / (x[1] - x[0] || 1);
  const Y = (value) => top + (height - top - bottom) * (1 - (value - y[0]) / (y[1] - y[0] || 1));
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  for (const tick of ticks(y[0], y[1], 5)) {
    svg.append(
      draw("line", { class: "grid", x1: left, x2: width - right, y1: Y(tick), y2: Y(tick) }),
      draw("text", { x: left - 8, y: Y(tick) + 4, "text-anchor": "end" }, `${Number((100 * tick).toFixed(1))} %`),
    );
  }
  for (const tick of xTicks || ticks(x[0], x[1], width < 480 ? 4 : 8))
    svg.append(draw("text", { x: X(tick), y: height - bottom + 20, "text-anchor": "middle" }, xText(tick)));
  svg.append(
    draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, `${xName} →`),
    draw("text", { x: 0, y: height - 6 }, `↑ ${yName}`),
  );
  return { svg, X, Y, left, right, top, bottom, width, height };
}

// Points that a pointer and the keyboard reach: Tab comes to one of them, arrows go on from there.
// A mark is `{ x, y, shape, label, tip, open }`; without `open` there is nothing behind it.
function reachable(svg, marks) {
  const nodes = marks.map(({ x, y, shape, label, tip, open }, index) => {
    const node = draw(
      "g", { class: "point", tabindex: index ? -1 : 0, role: open ? "button" : "img", "aria-label": label },
      shape, draw("circle", { class: "hit", cx: x, cy: y, r: 9 }),
    );
    node.addEventListener("mouseenter", () => showTip(tip(), node));
    node.addEventListener("mouseleave", hideTip);
    node.addEventListener("focus", () => showTip(tip(), node));
    node.addEventListener("blur", hideTip);
    if (open) node.addEventListener("click", open);
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (open && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); open(); }
      if (!step) return;
      event.preventDefault();
      const next = nodes[(index + step + nodes.length) % nodes.length];
      node.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    });
    return node;
  });
  svg.append(...nodes);
}

const cross = (x, y) => draw("path", { class: "dot cross", d: `M${x - 3.5} ${y - 3.5}l7 7m0 -7l-7 7` });
const disc = (x, y, kind, r = 5) => draw("circle", { class: `dot ${kind}`, cx: x, cy: y, r });
const diamond = (x, y, r = 6) => draw("path", { class: "test", d: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z` });
const legend = (...items) => el("ul", { class: "legend" }, items.filter(Boolean).map(([shape, text]) =>
  el("li", null, draw("svg", { viewBox: "0 0 24 12", "aria-hidden": "true" }, shape), text)));

function scoreRange(values, whole) {
  const low = Math.min(...values), high = Math.max(...values);
  if (whole && low >= 0 && high <= 1) return [0, 1];
  const pad = (high - low || 0.2) * 0.12;
  return [low >= 0 ? Math.max(0, low - pad) : low - pad, high <= 1 ? Math.min(1, high + pad) : high + pad];
}

// Intervals on a scale that all rows of a table share, one below the other.
function intervalPlot(marks, [low, high]) {
  const at = (share) => `${((100 * (share - low)) / (high - low || 1)).toFixed(2)}%`;
  const told = marks.map((mark) => `${mark.label ? `${mark.label} ` : ""}${percent(mark.score)}, interval ${between(mark.low, mark.high)}`);
  return draw(
    "svg", { role: "img", "aria-label": told.join("; ") },
    ticks(low, high, 4).map((tick) => draw("line", { class: "grid", x1: at(tick), x2: at(tick), y1: 0, y2: "100%" })),
    marks.map((mark, index) => {
      const y = `${(100 * (index + 1)) / (marks.length + 1)}%`;
      return [draw("line", { class: `whisker ${mark.kind}`, x1: at(mark.low), x2: at(mark.high), y1: y, y2: y }),
        draw("circle", { class: `disc ${mark.kind}`, cx: at(mark.score), cy: y, r: marks.length > 1 ? 4 : 5 })];
    }).flat(),
  );
}
const scale = ([low, high]) => draw("svg", { "aria-hidden": "true", class: "chart" }, [low, high].map((tick, index) =>
  draw("text", { x: `${100 * index}%`, y: "85%", "text-anchor": index ? "end" : "start" }, `${Math.round(100 * tick)} %`)));
const wholeTens = (marks) => [
  Math.floor(10 * Math.min(...marks.map((mark) => mark.low), 1)) / 10, Math.ceil(10 * Math.max(...marks.map((mark) => mark.high), 0)) / 10,
];

// A chart knows its width only once it stands in the page: it is drawn then, and again when that changes.
function responsive(make) {
  const host = el("div");
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width || !host.clientWidth) return;
    width = host.clientWidth;
    host.replaceChildren(...[make(width)].flat());
  }).observe(host);
  return host;
}
