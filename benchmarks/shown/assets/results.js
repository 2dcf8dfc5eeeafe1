// Results of benchmarks: what each suite's runs say.

const KINDS = { win: ["good", "win", "wins"], loss: ["warm", "loss", "losses"], open: ["", "cannot tell", "cannot tell"] };
const anchor = (index) => `suite-${index}`;
const of = (suite, kind) => suite.verdicts.filter((verdict) => verdict.kind === kind);
const chip = (kind, text) => el("span", { class: `chip ${KINDS[kind][0]}` }, text);
const tally = (kind, number) => `${count(number)} ${KINDS[kind][number === 1 ? 1 : 2]}`;

function heading() {
  const compared = content.suites.filter((suite) => suite.verdicts.length);
  const total = (kind) => compared.reduce((sum, suite) => sum + of(suite, kind).length, 0);
  const figure = (title, value) => el("div", null, el("dt", null, title), el("dd", null, value));
  return [
    el("p", { class: "brand" }, "progspace benchmarks"),
    el("div", { class: "top" }, el("h1", null, content.suites.length === 1 ? content.suites[0].name : "Benchmark results")),
    el("dl", { class: "figures" },
      figure("suites", count(content.suites.length)), figure("runs", count(content.suites.reduce((sum, suite) => sum + suite.runs, 0))),
      compared.length > 0 && Object.keys(KINDS).map((kind) => figure(KINDS[kind][2], count(total(kind))))),
    content.suites.length > 1 && el("nav", { "aria-label": "Suites" }, el("ul", { class: "contents" }, content.suites.map((suite, index) => el("li", null,
      el("a", { href: `#${anchor(index)}` }, suite.name), " ",
      Object.keys(KINDS).filter((kind) => of(suite, kind).length).map((kind) => [chip(kind, tally(kind, of(suite, kind).length)), " "]))))),
  ];
}

const verdicts = (suite) => suite.verdicts.length > 0 && [
  el("p", { class: "about" }, suite.rule),
  el("ul", { class: "verdicts" }, Object.keys(KINDS).flatMap((kind) => of(suite, kind)).map((verdict) =>
    el("li", null, chip(verdict.kind, KINDS[verdict.kind][1]), el("span", null, verdict.text)))),
];

function tableOf(shown) {
  const drawn = (index) => shown.rows.flatMap((row) => row[index].marks);
  const ranges = shown.columns.map((column, index) => (column.kind === "plot" ? wholeTens(drawn(index)) : null));
  const plotted = ranges.some(Boolean);
  const heads = shown.columns.map((column, index) => (ranges[index]
    ? head([el("span", { class: "hidden-text" }, column.name), scale(ranges[index])], false, { class: "plot" })
    : head(column.name, column.kind === "number")));
  const rows = shown.rows.map((row, at) => el("tr", { class: shown.strong.includes(at) ? "won" : null }, row.map((cell, index) => {
    if (ranges[index]) return el("td", { class: "plot" }, intervalPlot(cell.marks, ranges[index]));
    if (index === 0) {
      const [name, ...more] = cell.split("\n");
      return el("td", null, more.length || plotted || shown.strong.includes(at) ? el("b", null, name) : name, more.map((line) => el("div", { class: "choice" }, line)));
    }
    return shown.columns[index].kind === "number" ? number(cell, shown.columns[index].name) : el("td", { "data-label": shown.columns[index].name }, cell);
  })));
  const made = rows.length ? table(plotted ? "ladder" : "plain", heads, rows, null, shown.caption) : el("p", { class: "dim" }, "There are no rows.");
  if (shown.folded) return el("details", null, el("summary", null, shown.caption), made);
  return [el("h3", null, shown.caption), made];
}

// A series is told by its colour, its shape and its name.
const SHAPES = [
  (x, y) => draw("circle", { cx: x, cy: y, r: 5 }),
  (x, y) => draw("path", { d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` }),
  (x, y) => draw("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }),
  (x, y) => draw("path", { d: `M${x} ${y - 6}l6 10h-12z` }),
  (x, y) => draw("path", { d: `M${x} ${y + 6}l6 -10h-12z` }),
];
const COLOURS = 8;
const colour = (series) => (series.look < COLOURS ? `k${series.look}` : `k${1 + (series.look % (COLOURS - 1))}`);
function shapeOf(series, x, y) {
  const shape = SHAPES[series.look % SHAPES.length](x, y);
  shape.setAttribute("class", `series ${colour(series)}`);
  return shape;
}

function chartOf(shown) {
  const all = shown.series.flatMap((series) => series.points);
  const place = (value) => (shown.log ? Math.log10(Math.max(value, 1e-9)) : value);
  const places = [...new Set(all.map((point) => point.x))].sort((one, other) => one - other);
  const ends = all.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
  // Points of several series at one place stand side by side.
  const beside = (at, index) => (shown.log ? 0 : (index - (shown.series.length - 1) / 2) * Math.min(12, at.width / (8 * shown.series.length)));
  const low = place(places[0]), high = place(places[places.length - 1]), pad = (high - low || high || 1) * (shown.log ? 0.04 : 0.25);
  return responsive((width) => {
    const at = frame(width, {
      height: Math.max(260, Math.min(340, width * 0.6)), x: shown.log ? [low - pad, high + pad] : [Math.max(0, low - pad), high + pad],
      y: scoreRange(ends, false), xName: shown.x_name, yName: shown.y_name, xTicks: places.map(place), label: shown.title,
      xText: (value) => count(shown.log ? 10 ** value : value),
    });
    const lines = [], marks = [];
    shown.series.forEach((series, index) => {
      const spots = series.points.map((point) => ({ point, x: at.X(place(point.x)) + beside(at, index), y: at.Y(point.y) }));
      if (spots.length > 1)
        lines.push(draw("polyline", { class: `line ${colour(series)}${series.own ? " own" : ""}`, points: spots.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ") }));
      for (const { point, x, y } of spots) {
        if (point.low !== null && point.high !== null)
          lines.push(draw("line", { class: `line ${colour(series)}`, x1: x, x2: x, y1: at.Y(point.low), y2: at.Y(point.high) }));
        marks.push({ x, y, shape: shapeOf(series, x, y), label: `${series.name}: ${point.about}`, tip: () => [el("b", null, series.name), el("br"), point.about] });
      }
    });
    at.svg.append(...lines);
    reachable(at.svg, marks);
    return at.svg;
  });
}

const charts = (suite) => suite.charts.length > 0 && el("div", { class: "charts" }, suite.charts.map((shown) => el("figure", null,
  el("figcaption", null, shown.title), chartOf(shown),
  legend(...shown.series.map((series) => [shapeOf(series, 12, 6), series.own ? el("b", null, series.name) : series.name])))));

document.getElementById("head").replaceChildren(...heading().filter(Boolean));
document.getElementById("main").replaceChildren(...content.suites.map((suite, index) => section(anchor(index), suite.name, suite.about,
  verdicts(suite), charts(suite), suite.tables.map(tableOf),
  suite.notes.length > 0 && el("ul", { class: "notes" }, suite.notes.map((note) => el("li", null, note))),
  el("p", { class: "dim" }, `${suite.file}: ${plural(suite.runs, "run")}`))));
unfoldOnPaper("#main details");
