// The charts: small SVG, drawn at the width that there is, so that their text keeps its size.

function ticks(low, high, about) {
  const raw = (high - low) / about || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
  const all = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) all.push(Number(at.toPrecision(12)));
  return all;
}

function frame(width, { height, x, y, xName, yName, xText = count, label }) {
  const left = 46, right = 14, top = 22, bottom = 44;
  const X = (value) => left + ((width - left - right) * (value - x[0])) / (x[1] - x[0] || 1);
  const Y = (value) => top + (height - top - bottom) * (1 - (value - y[0]) / (y[1] - y[0] || 1));
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  for (const tick of ticks(y[0], y[1], 5)) {
    svg.append(
      draw("line", { class: "grid", x1: left, x2: width - right, y1: Y(tick), y2: Y(tick) }),
      draw("text", { x: left - 8, y: Y(tick) + 4, "text-anchor": "end" }, `${Math.round(100 * tick)} %`),
    );
  }
  for (const tick of ticks(x[0], x[1], width < 480 ? 4 : 8))
    svg.append(draw("text", { x: X(tick), y: height - bottom + 20, "text-anchor": "middle" }, xText(tick)));
  svg.append(
    draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, `${xName} →`),
    draw("text", { x: 0, y: height - 6 }, `↑ ${yName}`),
  );
  return { svg, X, Y, left, right, top, bottom, width, height };
}

// Points that a pointer and the keyboard reach: Tab comes to one of them, arrows go on from there.
function reachable(svg, marks) {
  const nodes = marks.map(({ candidate, x, y, shape, about }, index) => {
    const told = [name(candidate), candidate.choice, `${percent(candidate.score)} on ${plural(candidate.n, "example")}`, about];
    const node = draw(
      "g", { class: "point", tabindex: index ? -1 : 0, role: "button", "aria-label": told.filter(Boolean).join(", ") },
      shape, draw("circle", { class: "hit", cx: x, cy: y, r: 9 }),
    );
    node.addEventListener("mouseenter", () => showTip(candidate, node));
    node.addEventListener("mouseleave", hideTip);
    node.addEventListener("focus", () => showTip(candidate, node));
    node.addEventListener("blur", hideTip);
    node.addEventListener("click", () => openCandidate(candidate.number));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); openCandidate(candidate.number); }
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

function kindOf(candidate) {
  if (candidate.number === content.winner) return "won";
  return candidate.number === baseline() ? "base" : candidate.front ? "front" : "";
}

function scoreRange(values, whole) {
  const low = Math.min(...values), high = Math.max(...values);
  if (whole && low >= 0 && high <= 1) return [0, 1];
  const pad = (high - low || 0.2) * 0.12;
  return [low >= 0 ? Math.max(0, low - pad) : low - pad, high <= 1 ? Math.min(1, high + pad) : high + pad];
}

// The interval of one rung, on the scale that all rungs share.
function ladderPlot(measured, kind, [low, high]) {
  const at = (share) => `${((100 * (share - low)) / (high - low || 1)).toFixed(2)}%`;
  return draw(
    "svg", { role: "img", "aria-label": `${percent(measured.score)}, interval ${between(measured.low, measured.high)}` },
    ticks(low, high, 4).map((tick) => draw("line", { class: "grid", x1: at(tick), x2: at(tick), y1: 0, y2: "100%" })),
    draw("line", { class: `whisker ${kind}`, x1: at(measured.low), x2: at(measured.high), y1: "50%", y2: "50%" }),
    draw("circle", { class: `disc ${kind}`, cx: at(measured.score), cy: "50%", r: 5 }),
  );
}

// The race as it ran: a line for each candidate, from its first examples to its last.
function raceChart(width) {
  // Means of one or two examples are all or nothing, and would fill the chart.
  const settled = (steps) => steps.filter((step, index) => step.n >= 3 || index === steps.length - 1);
  const raced = content.candidates.filter((each) => each.steps.length).map((each) => ({ ...each, steps: settled(each.steps) }));
  const scores = raced.flatMap((each) => each.steps.map((step) => step.score));
  const most = Math.max(content.calls, 1);
  const at = frame(width, {
    height: Math.max(280, Math.min(400, width * 0.5)), x: [0, most], y: scoreRange([0, ...scores], true),
    xName: "calls asked", yName: "mean score on dev", label: "Score against calls, a line for each candidate",
  });
  let told = -Infinity;
  for (const rung of content.rungs.slice(1)) {
    const x = at.X(rung.begun_after);
    at.svg.append(draw("line", { class: "grid", x1: x, x2: x, y1: at.top, y2: at.height - at.bottom }));
    if (x - told > 64) { at.svg.append(draw("text", { class: "over", x: x + 4, y: at.top - 8 }, rung.name)); told = x; }
  }
  const best = new Set(content.rungs.filter((rung) => rung.kept).map((rung) => rung.best));
  const weight = (each) => (each.number === content.winner ? 2 : best.has(each.number) ? 1 : 0);
  const lines = [...raced].sort((one, other) => weight(one) - weight(other));
  for (const each of lines) {
    const kind = ["", "best", "won"][weight(each)];
    const path = each.steps.map((step) => `${at.X(step.calls).toFixed(1)},${at.Y(step.score).toFixed(1)}`).join(" ");
    at.svg.append(draw("polyline", { class: `track ${kind}`, points: path }));
  }
  const marks = lines.map((candidate) => {
    const last = candidate.steps[candidate.steps.length - 1];
    const x = at.X(last.calls), y = at.Y(last.score);
    const about = candidate.dropped ? `dropped after ${count(candidate.dropped_after)} calls: ${candidate.dropped}` : role(candidate);
    return { candidate, x, y, about, shape: candidate.dropped ? cross(x, y) : disc(x, y, kindOf(candidate), 4) };
  });
  reachable(at.svg, marks.sort((one, other) => one.x - other.x));
  let calls = 0;
  for (const rung of content.rungs) {
    calls = rung.begun_after + rung.calls;
    if (!rung.kept || !rung.test) continue;
    const told = `${rung.name}: ${percent(rung.test.score)} on the sealed test`;
    const mark = diamond(at.X(calls), at.Y(rung.test.score));
    mark.append(draw("title", null, told));
    at.svg.append(mark);
  }
  return at.svg;
}

// Quality against what it takes: every candidate that ran on at least half as many examples as any.
function frontChart(width) {
  const by = chosen.by, known = content.candidates.filter((each) => each.score !== null && each[by] !== null);
  const most = Math.max(0, ...known.map((each) => each.n));
  const shown = known.filter((each) => 2 * each.n >= most);
  if (!shown.length) return el("p", { class: "dim" }, "Nothing has been measured yet.");
  const high = Math.max(...shown.map((each) => each[by])) * 1.06;
  const at = frame(width, {
    height: Math.max(280, Math.min(380, width * 0.45)), x: [0, high], y: scoreRange(shown.map((each) => each.score), false),
    xName: by === "tokens" ? "tokens an example" : "seconds an example", yName: "mean score on dev",
    xText: by === "tokens" ? count : duration, label: `Quality against ${by}, a point for each candidate`,
  });
  const front = [...shown].sort((one, other) => one[by] - other[by] || other.score - one.score)
    .reduce((all, each) => (all.length && all[all.length - 1].score >= each.score ? all : [...all, each]), []);
  const line = front.map((each, index) =>
    (index ? `H${at.X(each[by]).toFixed(1)}V` : `M${at.X(each[by]).toFixed(1)} `) + at.Y(each.score).toFixed(1)).join("");
  at.svg.append(draw("path", { class: "frontline", d: `${line}H${at.width - at.right}` }));
  const onFront = new Set(front.map((each) => each.number));
  const order = [...shown].sort((one, other) => (kindOf(one) ? 1 : 0) - (kindOf(other) ? 1 : 0));
  const marks = order.map((candidate) => {
    const x = at.X(candidate[by]), y = at.Y(candidate.score), kind = kindOf(candidate);
    const filled = kind === "won" || kind === "base" ? kind : onFront.has(candidate.number) ? "front" : "";
    return { candidate, x, y, about: `${by === "tokens" ? `${count(candidate.tokens)} tokens` : duration(candidate.seconds)} an example`,
      shape: disc(x, y, filled) };
  });
  const placed = [], labels = [];
  for (const { candidate, x, y } of [...marks].reverse()) {
    if (!role(candidate) && !onFront.has(candidate.number)) continue;
    const text = role(candidate) ? `${name(candidate)} ${role(candidate)}` : name(candidate);
    const wide = 6.8 * text.length, start = Math.max(at.left, Math.min(x - wide / 2, at.width - wide));
    const box = [start, y - 22, start + wide, y - 8];
    const free = (boxes) => boxes.every((other) => box[0] > other[2] || box[2] < other[0] || box[1] > other[3] || box[3] < other[1]);
    if (!free(placed)) continue;
    placed.push(box);
    labels.push(draw("text", { class: "name over", x: start, y: y - 10 }, text));
  }
  reachable(at.svg, marks);
  at.svg.append(...labels);
  return at.svg;
}
