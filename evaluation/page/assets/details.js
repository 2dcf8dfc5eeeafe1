// What opens: a candidate, a cell, an example; and prompts side by side.

const words = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];

// The longest common subsequence of two lists of words, as runs: [kind, text], kind −1 left alone, 1 right alone, 0 both.
function difference(left, right) {
  let a = words(left), b = words(right), begin = 0, end = 0;
  while (begin < a.length && begin < b.length && a[begin] === b[begin]) begin += 1;
  while (end < a.length - begin && end < b.length - begin && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const head = a.slice(0, begin).join(""), tail = end ? a.slice(-end).join("") : "";
  a = a.slice(begin, a.length - end);
  b = b.slice(begin, b.length - end);
  if (a.length * b.length > 6e6) return [[0, head], [-1, a.join("")], [1, b.join("")], [0, tail]];
  const wide = b.length + 1, longest = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      longest[i * wide + j] = a[i] === b[j] ? longest[(i + 1) * wide + j + 1] + 1
        : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
  const runs = [[0, head]];
  const add = (kind, text) => (runs[runs.length - 1][0] === kind ? (runs[runs.length - 1][1] += text) : runs.push([kind, text]));
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { add(0, a[i]); i += 1; j += 1; }
    else if (j === b.length || (i < a.length && longest[(i + 1) * wide + j] >= longest[i * wide + j + 1])) { add(-1, a[i]); i += 1; }
    else { add(1, b[j]); j += 1; }
  }
  add(0, tail);
  // A space between two changes belongs to both: marked in pieces, a sentence reads badly.
  return runs.flatMap(([kind, text], index) =>
    (kind === 0 && index > 0 && index < runs.length - 1 && text && !text.trim() ? [[-1, text], [1, text]] : [[kind, text]]));
}

// One side of a difference, in as few pieces as it has.
function sideOf(runs, kind) {
  const own = [];
  for (const [each, text] of runs.filter(([each]) => each === 0 || each === kind))
    if (own.length && own[own.length - 1][0] === each) own[own.length - 1][1] += text;
    else own.push([each, text]);
  return own;
}

function sideBySide() {
  const known = content.candidates.filter((each) => each.prompts).sort((one, other) => (other.score ?? -1) - (one.score ?? -1));
  if (known.length < 2) return [el("p", { class: "dim" }, "There is one prompt only.")];
  const pick = (side, first, what) => {
    if (!known.some((each) => each.number === chosen[side])) chosen[side] = first;
    const list = el("select", { id: side }, known.map((each) =>
      el("option", { value: each.number, selected: each.number === chosen[side] }, `${name(each)} · ${percent(each.score)} · ${cut(each.choice, 70)}`)));
    list.addEventListener("change", () => { chosen[side] = Number(list.value); show(); });
    return el("label", { for: side }, what, list);
  };
  const result = el("div");
  function show() {
    const [one, other] = [chosen.left, chosen.right].map(candidateOf);
    const names = [...new Set([...Object.keys(one.prompts), ...Object.keys(other.prompts)])];
    result.replaceChildren(...names.map((each) => {
      const runs = difference(one.prompts[each] || "", other.prompts[each] || "");
      const side = (kind, tag) => el("pre", { tabindex: 0, role: "region", "aria-label": `Prompt of ${each}, ${kind < 0 ? "left" : "right"}` },
        sideOf(runs, kind).map(([own, text]) => (own ? el(tag, null, text) : text)));
      return el("div", null, names.length > 1 && el("h3", null, each), el("div", { class: "sides" }, side(-1, "del"), side(1, "ins")));
    }));
  }
  const first = baseline() ?? known[known.length - 1].number;
  const second = content.winner !== null && content.winner !== first ? content.winner : known.find((each) => each.number !== first).number;
  const pickers = el("div", { class: "sides" }, pick("left", first, "What only the left one has is marked"), pick("right", second, "What only the right one has is marked"));
  show();
  return [pickers, result];
}

function openDialog(title, ...parts) {
  const dialog = document.getElementById("detail");
  hideTip();
  dialog.replaceChildren(
    el("div", { class: "dialog-head" }, el("h2", { id: "detail-title" }, title), el("button", { onclick: () => dialog.close(), autofocus: true }, "Close")),
    ...parts.flat(Infinity).filter(Boolean),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
const facts = (pairs) => el("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
  .map(([key, value]) => [el("dt", null, key), el("dd", null, value)]));
const block = (title, text) => text ? [el("h3", null, title), el("pre", { tabindex: 0, role: "region", "aria-label": title }, text)] : [];
const fieldsOf = (values) => Object.entries(values).map(([key, value]) => `${key}: ${value}`).join("\n");

function openCandidate(number) {
  const it = candidateOf(number);
  openDialog(
    `${name(it)} ${it.choice}`,
    facts([
      ["score on dev", it.score === null ? "not run" : `${percent(it.score)} on ${plural(it.n, "example")}`],
      ["tokens an example", count(it.tokens)], ["seconds an example", duration(it.seconds)],
      ["proposed by", `${it.proposer}, on the rung ${it.rung}`], ["place", role(it)],
      ["dropped", it.dropped && (it.dropped_after === null ? it.dropped : `after ${count(it.dropped_after)} calls: ${it.dropped}`)],
    ]),
    Object.entries(it.prompts || {}).map(([predictor, text]) => block(`Prompt of ${predictor}`, text)),
  );
}

function openCell(number, example) {
  const it = candidateOf(number), cells = content.cells[number], shown = content.examples[example];
  const filled = (text) => Object.entries(shown.inputs).reduce((all, [field, value]) => all.split(`⟦${field}⟧`).join(value), text);
  const score = cells.scores[example];
  openDialog(
    `${name(it)} on example ${example + 1}`,
    facts([["candidate", it.choice], ["score", score === null ? "not bought" : percent(score)], ["split", shown.fresh ? "dev, fresh: no race looked at it" : "dev"]]),
    block("Inputs", fieldsOf(shown.inputs)), block("Expected", fieldsOf(shown.labels)),
    block("Output", content.texts[cells.outputs[example]] || (score === null ? "" : content.cut ? "(left out: the page would be too large)" : "(none)")),
    block("Feedback", content.texts[cells.remarks[example]]),
    Object.entries(it.prompts || {}).map(([predictor, text]) => block(`Prompt of ${predictor}`, filled(text))),
  );
}

function openExample(example) {
  const shown = content.examples[example];
  const rows = matrixRows().filter((row) => content.cells[row.number].scores[example] !== null);
  openDialog(
    `Example ${example + 1}`, block("Inputs", fieldsOf(shown.inputs)), block("Expected", fieldsOf(shown.labels)),
    el("h3", null, `What ${plural(rows.length, "candidate")} made of it`),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Answers" }, el("table", null,
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "candidate"), el("th", { scope: "col", class: "number" }, "score"), el("th", { scope: "col" }, "output"))),
      el("tbody", null, rows.slice(0, 40).map((row) => el("tr", null,
        el("td", null, el("button", { class: "link", onclick: () => openCell(row.number, example) }, name(row)), " ", el("span", { class: "choice" }, cut(row.choice, 60))),
        el("td", { class: "number" }, percent(content.cells[row.number].scores[example])),
        el("td", null, cut(content.texts[content.cells[row.number].outputs[example]] || "", 160))))))),
  );
}
