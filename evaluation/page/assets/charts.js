// The candidates, and the charts of them.

// What a person has chosen; it outlives a refresh.
const chosen = { by: "tokens", order: "race", sort: "score", left: null, right: null };

const name = (candidate) => `c${candidate.number}`;
const candidateOf = (number) => content.candidates.find((each) => each.number === number);
const baseline = () => (content.rungs[0] && content.rungs[0].best !== null ? content.rungs[0].best : null);
const firstPrompt = (candidate) => Object.values(candidate.prompts || {}).join("\n\n");
function role(candidate) {
  if (candidate.number === content.winner) return content.state === "running" ? "best so far" : "winner";
  return candidate.number === baseline() ? "as declared" : null;
}

// A candidate as a point of a chart.
function candidateMark(candidate, x, y, shape, about) {
  const told = [name(candidate), candidate.choice, `${percent(candidate.score)} on ${plural(candidate.n, "example")}`, about];
  return { x, y, shape, label: told.filter(Boolean).join(", "), tip: () => tipOf(candidate), open: () => openCandidate(candidate.number) };
}

function tipOf(candidate) {
  const told = [percent(candidate.score), `${plural(candidate.n, "example")}`], prompt = firstPrompt(candidate);
  if (candidate.tokens !== null) told.push(`${count(candidate.tokens)} tokens each`);
  return [
    el("b", null, `${name(candidate)} `), candidate.choice, el("br"), told.join(" · "),
    candidate.dropped ? [el("br"), `Dropped after ${count(candidate.dropped_after)} calls: ${candidate.dropped}`] : null,
    prompt ? el("pre", null, cut(prompt, 420)) : null,
  ];
}

function kindOf(candidate) {
  if (candidate.number === content.winner) return "won";
  return candidate.number === baseline() ? "base" : candidate.front ? "front" : "";
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
    return candidateMark(candidate, x, y, candidate.dropped ? cross(x, y) : disc(x, y, kindOf(candidate), 4), about);
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
    const about = `${by === "tokens" ? `${count(candidate.tokens)} tokens` : duration(candidate.seconds)} an example`;
    return { candidate, ...candidateMark(candidate, x, y, disc(x, y, filled), about) };
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
