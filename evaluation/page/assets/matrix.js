// The matrix of candidates × examples: one canvas, reached by pointer and keyboard.

const ROW = 16;

function colour(score) {
  if (score === null) return null;
  const to = (from, until, share) => Math.round(from + (until - from) * share);
  const share = Math.max(0, Math.min(1, score));
  const [from, until, part] = share < 0.5 ? [[224, 123, 57], [185, 191, 198], 2 * share] : [[185, 191, 198], [42, 127, 192], 2 * share - 1];
  return `rgb(${from.map((each, index) => to(each, until[index], part)).join(",")})`;
}

function matrixRows() {
  return content.candidates.filter((each) => content.cells[each.number]).sort((one, other) =>
    (other.number === content.winner) - (one.number === content.winner) || other.n - one.n || other.score - one.score);
}

function matrixColumns(rows) {
  const all = content.examples.map((_, index) => index);
  if (chosen.order === "race") return all;
  const easy = all.map((index) => {
    const scores = rows.map((row) => content.cells[row.number].scores[index]).filter((score) => score !== null);
    return scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : 2;
  });
  return all.sort((one, other) => easy[one] - easy[other] || one - other);
}

function heatMap(width) {
  const rows = matrixRows(), columns = matrixColumns(rows);
  const labels = width < 640 ? 52 : 240;
  const cell = Math.max(4, Math.min(16, Math.floor((width - labels - 4) / columns.length)));
  const wide = cell * columns.length, high = ROW * rows.length;
  const dense = Math.min(devicePixelRatio || 1, Math.sqrt(16e6 / Math.max(1, wide * high)));
  const canvas = el("canvas", { width: Math.round(wide * dense), height: Math.round(high * dense) });
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${high}px`;
  const brush = canvas.getContext("2d");
  const names = rows.map((row) => el("div", { class: row.number === content.winner ? "won" : null }, name(row), el("span", null, ` ${row.choice}`)));
  const where = el("p", { class: "where", "aria-live": "polite" }, el("span", { class: "dim" }, "Point at a cell, or go there with the arrow keys; Enter or a click opens it."));
  let at = null;
  const gap = cell > 5 ? 1 : 0;

  function paint(row, column) {
    brush.setTransform(dense, 0, 0, dense, 0, 0);
    brush.clearRect(column * cell, row * ROW, cell, ROW);
    const filled = colour(content.cells[rows[row].number].scores[columns[column]]);
    if (filled) { brush.fillStyle = filled; brush.fillRect(column * cell, row * ROW, cell - gap, ROW - 1); }
    if (at && at[0] === row && at[1] === column) {
      brush.strokeStyle = getComputedStyle(document.body).color;
      brush.lineWidth = 2;
      brush.strokeRect(column * cell + 1, row * ROW + 1, Math.max(cell - 2, 2), ROW - 2);
    }
  }
  rows.forEach((_, row) => columns.forEach((_, column) => paint(row, column)));

  function go(row, column) {
    const before = at;
    at = [Math.max(0, Math.min(rows.length - 1, row)), Math.max(0, Math.min(columns.length - 1, column))];
    if (before) { paint(...before); names[before[0]].classList.remove("on"); }
    paint(...at);
    names[at[0]].classList.add("on");
    const candidate = rows[at[0]], example = columns[at[1]], cells = content.cells[candidate.number];
    const score = cells.scores[example], said = content.texts[cells.outputs[example]];
    where.replaceChildren(
      el("b", null, `${name(candidate)} on example ${example + 1}: ${score === null ? "not bought" : percent(score)}`),
      said ? ` · ${cut(said, 120)}` : "", el("br"), el("span", { class: "dim" }, cut(Object.values(content.examples[example].inputs).join(" · "), 160)),
    );
  }
  const open = () => at && openCell(rows[at[0]].number, columns[at[1]]);
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor((event.clientY - box.top) / ROW), Math.floor((event.clientX - box.left) / cell)];
  };
  canvas.addEventListener("mousemove", (event) => go(...place(event)));
  canvas.addEventListener("click", (event) => { go(...place(event)); open(); });
  const heat = el(
    "div", { class: "heat", tabindex: 0, role: "application", "aria-roledescription": "heat map",
      "aria-label": `Scores of ${plural(rows.length, "candidate")} on ${plural(columns.length, "example")}. Arrow keys move, Enter opens a cell.` },
    el("div", { class: "rows", "aria-hidden": "true" }, names), canvas,
  );
  heat.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (event.key === "Enter") open();
    if (!step) return;
    event.preventDefault();
    at ? go(at[0] + step[0], at[1] + step[1]) : go(0, 0);
    const side = names[0].offsetWidth, x = side + at[1] * cell, y = at[0] * ROW;
    if (x - heat.scrollLeft < side) heat.scrollLeft = x - side;
    else if (x + cell > heat.scrollLeft + heat.clientWidth) heat.scrollLeft = x + cell - heat.clientWidth;
    if (y < heat.scrollTop) heat.scrollTop = y;
    else if (y + ROW > heat.scrollTop + heat.clientHeight) heat.scrollTop = y + ROW - heat.clientHeight;
  });
  return [heat, where];
}
