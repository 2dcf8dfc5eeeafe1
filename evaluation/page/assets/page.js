// The sections, in the order in which a person asks.

const outcome = (rung) => rung.kept === null ? ["running", ""] : rung.kept ? ["kept", "good"] : ["not kept", ""];

function heading() {
  const won = content.rungs.filter((rung) => rung.kept).slice(-1)[0], first = content.rungs[0];
  const state = { running: ["running", "warm"], finished: ["finished", "good"], file: ["from an artifact", ""] }[content.state];
  const told = won && (won.test || won.dev), from = first && (won && won.test ? first.test : first.dev);
  const moved = told && won !== first && from;
  const limit = content.budget.calls;
  const cells = Object.values(content.cells).reduce((sum, row) => sum + row.scores.filter((score) => score !== null).length, 0);
  const figure = (title, value, share) => value && el("div", null, el("dt", null, title), el("dd", null, value, share !== undefined && progress(share)));
  const progress = (share) => { const inner = el("i"); inner.style.width = `${100 * Math.min(1, share)}%`; return el("div", { class: "bar", "aria-hidden": "true" }, inner); };
  return [
    el("p", { class: "brand" }, "progspace report"),
    el("div", { class: "top" }, el("h1", null, content.task), el("span", { class: `chip ${state[1]}` }, state[0]), el("span", { class: "dim" }, `${content.lm}, seed ${content.seed}`)),
    el("div", { class: "hero" },
      el("div", null,
        told && el("p", { class: "score" }, moved && el("span", { class: "from" }, `${percent(from.score)} → `), percent(told.score)),
        el("p", { class: "verdict" }, content.lines[0] || (won ? `Best so far: ${won.choice}, on ${plural(won.dev ? won.dev.n : 0, "dev example")}.` : "The baseline is being measured."))),
      el("dl", { class: "figures" },
        figure("calls", limit ? `${count(content.calls)} of ${count(limit)}` : count(content.calls), limit ? content.calls / limit : undefined),
        figure("candidates", count(content.candidates.length)),
        cells > 0 && figure("cells of the matrix", count(cells)),
        figure("time in all", duration(content.seconds)),
        content.usd > 0 && figure("paid", money(content.usd)),
        content.test_calls > 0 && figure("sealed test", `${count(content.test_calls)} calls`))),
    content.lines.length > 1 && el("details", null, el("summary", null, "All that the report says"), el("ul", null, content.lines.slice(1).map((line) => el("li", null, line)))),
  ];
}

function ladder() {
  const shown = content.rungs.map((rung) => rung.test || rung.dev).filter(Boolean);
  const range = wholeTens(shown);
  const tested = content.rungs.some((rung) => rung.test);
  const rows = content.rungs.map((rung) => {
    const measured = rung.test || rung.dev, won = rung.best !== null ? rung.best === content.winner && rung.kept : rung.kept && content.rungs.filter((each) => each.kept).slice(-1)[0] === rung;
    const kind = won ? "won" : rung.kept === false ? "lost" : "";
    const [word, tone] = rung === content.rungs[0] && !won ? ["start", ""] : outcome(rung);
    return el("tr", { class: kind },
      el("td", null, el("b", null, rung.name), " ", el("span", { class: `chip ${tone}` }, won ? (content.state === "running" ? "best so far" : "winner") : word),
        el("div", { class: "choice" }, rung.best !== null && content.candidates.length ? el("button", { class: "link", onclick: () => openCandidate(rung.best) }, rung.choice) : rung.choice),
        rung.reason && el("div", { class: "choice" }, rung.reason)),
      number(percent(measured && measured.score), rung.test ? "test" : "dev"),
      el("td", { class: "plot" }, measured && intervalPlot([{ ...measured, kind }], range)),
      number(measured ? between(measured.low, measured.high) : "–", "95 %"),
      number(rung.gain ? points(rung.gain.difference) : "–", "gain"), number(count(measured && measured.tokens), "tokens"),
      number(count(rung.calls), "calls"), number(duration(rung.seconds), "time"));
  });
  const ends = tested ? "Scores on the sealed test, which was read once the search was over, with 95 % intervals."
    : "Scores on the dev examples that each rung's best was run on, with 95 % intervals; it was chosen there, so they are a little lucky.";
  return section("ladder", "The ladder", `${ends} A rung is kept only if its best beats the rung below.`,
    table("ladder", [head("rung"), head(tested ? "test" : "dev", true), head([el("span", { class: "hidden-text" }, "interval, drawn"), scale(range)], false, { class: "plot" }), head("95 %", true), head("gain", true), head("tokens", true), head("calls", true), head("time", true)], rows, null, "Rungs"));
}

function race() {
  if (!content.candidates.some((each) => each.steps.length)) return missing("race", "Score against calls");
  const dropped = content.candidates.filter((each) => each.dropped).length;
  return section("race", "Score against calls",
    `The race as it ran: a line is a candidate, on more and more examples. ${plural(dropped, "candidate")} of ${content.candidates.length} ${dropped === 1 ? "was" : "were"} given up on the way; early scores are of few examples.`,
    responsive(raceChart),
    legend([draw("path", { class: "track won", d: "M0 6H24" }), content.state === "running" ? "best so far" : "winner"], [draw("path", { class: "track best", d: "M0 6H24" }), "best of another rung that was kept"],
      [draw("path", { class: "track", d: "M0 6H24" }), "another candidate"], [cross(12, 6), "dropped"], content.rungs.some((rung) => rung.test) && [diamond(12, 6, 5), "sealed test"]),
    candidates());
}

function candidates() {
  const keys = {
    score: (each) => -(each.score ?? -9), n: (each) => -each.n, tokens: (each) => each.tokens ?? Infinity, order: (each) => each.number,
    dropped: (each) => each.dropped_after ?? Infinity,
  };
  const host = el("details", null, el("summary", null, `All ${content.candidates.length} candidates as a table`));
  const body = el("tbody");
  const show = () => body.replaceChildren(...[...content.candidates].sort((one, other) => keys[chosen.sort](one) - keys[chosen.sort](other) || one.number - other.number).map((each) => el("tr", { class: each.number === content.winner ? "won" : null },
    el("td", null, el("button", { class: "link", onclick: () => openCandidate(each.number) }, name(each)), " ", el("span", { class: "choice" }, each.choice)),
    el("td", null, each.rung), number(percent(each.score)), number(count(each.n)), number(count(each.tokens)),
    el("td", { class: "choice" }, each.dropped ? (each.dropped_after === null ? each.dropped : `after ${count(each.dropped_after)} calls: ${each.dropped}`) : role(each) || ""))));
  const sorting = (key, text, numeric) => head(el("button", { onclick: () => { chosen.sort = key; show(); } }, text), numeric);
  show();
  host.append(el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Candidates" }, el("table", null,
    el("thead", null, el("tr", null, sorting("order", "candidate"), head("rung"), sorting("score", "dev", true), sorting("n", "examples", true), sorting("tokens", "tokens", true), sorting("dropped", "dropped"))), body)));
  return host;
}

function switcher(key, label, options, redraw) {
  const buttons = options.map(([value, text]) => el("button", {
    "aria-pressed": String(chosen[key] === value),
    onclick: () => { chosen[key] = value; buttons.forEach((each, index) => each.setAttribute("aria-pressed", String(options[index][0] === value))); redraw(); },
  }, text));
  return el("div", { class: "controls" }, el("div", { role: "group", "aria-label": label }, buttons));
}

function redrawn(make) {
  const host = el("div");
  const show = () => host.replaceChildren(responsive(make));
  show();
  return [host, show];
}

function front() {
  if (!content.candidates.some((each) => each.score !== null)) return missing("front", "Quality and what it takes");
  const [host, show] = redrawn(frontChart);
  const timed = content.candidates.some((each) => each.seconds !== null);
  return section("front", "Quality and what it takes",
    "Candidates that ran on at least half as many dev examples as any. On the dashed line, the Pareto front, none is better without being dearer. Point at one, or go there with Tab and the arrow keys, to see its prompt.",
    timed && switcher("by", "Against", [["tokens", "tokens"], ["seconds", "seconds"]], show), host,
    legend([disc(12, 6, "won", 4.5), content.state === "running" ? "best so far" : "winner"], [disc(12, 6, "base", 4.5), "as declared"], [disc(12, 6, "front", 4.5), "on the front"], [disc(12, 6, "", 4.5), "another candidate"]));
}

function matrix() {
  if (!Object.keys(content.cells).length) return missing("matrix", "Candidates × examples");
  const [host, show] = redrawn(heatMap);
  const kinds = [["s1", "100 %"], ["s5", "50 %"], ["s0", "0 %"], ["none", "not bought"]];
  return section("matrix", "Candidates × examples", `${plural(content.examples.length, "dev example")} from left to right; the last ${content.examples.filter((each) => each.fresh).length} are fresh: no race looked at them. The sealed test is not shown.${content.cut ? " Some outputs were left out to keep the page small; they are in the store." : ""}`,
    switcher("order", "Order of examples", [["race", "as raced"], ["hard", "hardest first"]], show), host,
    el("ul", { class: "legend" }, kinds.map(([kind, text]) => el("li", null, el("span", { class: `swatch ${kind}` }), text))));
}

function edgeCases() {
  if (!Object.keys(content.cells).length) return null;
  const told = { fail: ["all of them fail", "warm"], disagree: ["they disagree", ""] };
  return section("edge-cases", "Edge cases", "Dev examples on which the five best candidates fail or disagree.",
    content.edge_cases.length ? el("ul", { class: "cases" }, content.edge_cases.map((each) => {
      const shown = content.examples[each.example];
      return el("li", null, el("span", null, el("span", { class: `chip ${told[each.kind][1]}` }, told[each.kind][0])),
        el("span", { class: "what" }, el("button", { class: "link", onclick: () => openExample(each.example) }, `Example ${each.example + 1}`),
          el("span", { class: "clamp" }, Object.values(shown.inputs).join(" · ")), el("span", { class: "dim" }, cut(fieldsOf(shown.labels), 120))),
        el("span", { class: "number" }, `${percent(each.score)} of ${each.n}`));
    })) : el("p", { class: "dim" }, "There are none: on every example the good candidates agree, and are right."));
}

function prompts() {
  if (!content.candidates.some((each) => each.prompts)) return missing("prompts", "Prompts side by side");
  return section("prompts", "Prompts side by side", "As they are sent; ⟦…⟧ stands where an input goes.", sideBySide());
}

function cost() {
  const sum = (key) => content.rungs.reduce((total, rung) => total + (rung[key] || 0), 0), paid = content.test_usd || content.rungs.some((rung) => rung.usd);
  const cells = (rung) => [number(count(rung.calls)), number(count(rung.bought)), number(count(rung.input_tokens)), number(count(rung.output_tokens)), number(duration(rung.seconds)), paid && number(money(rung.usd))];
  const total = Object.fromEntries(["calls", "bought", "input_tokens", "output_tokens", "seconds", "usd"].map((key) => [key, sum(key)]));
  const rows = content.rungs.map((rung) => el("tr", null, el("td", null, rung.name), cells(rung)));
  if (content.test_calls) rows.push(el("tr", null, el("td", null, "sealed test, after the search"), number(count(content.test_calls)), number("–"), number("–"), number("–"), number(duration(content.test_seconds)), paid && number(money(content.test_usd))));
  const proposed = content.rungs.flatMap((rung) => rung.proposers.filter((each) => each.candidates).map((each) => el("tr", null,
    el("td", null, each.name), el("td", null, rung.name), number(count(each.candidates)), number(count(each.calls)), number(each.promise.toFixed(1)))));
  return section("cost", "What it cost", "Calls that were answered before the search began, or not at all, count as asked, and were not bought.",
    table("", [head("rung"), head("calls", true), head("bought", true), head("tokens in", true), head("tokens out", true), head("time", true), paid && head("paid", true)], rows,
      el("tr", null, el("td", null, "search"), cells(total)), "Cost by rung"),
    proposed.length > 0 && [el("h3", null, "By who proposed"), table("", [head("proposer"), head("rung"), head("candidates", true), head("calls", true), head("better, in expectation", true)], proposed, null, "Cost by proposer")]);
}

const missing = (id, title) => section(id, title, content.state === "running" ? "Nothing to show yet." : "Only the store in which the search ran holds this: name it with --store.");

function render() {
  document.title = `${content.task} · progspace`;
  document.getElementById("head").replaceChildren(...heading().filter(Boolean));
  document.getElementById("main").replaceChildren(...[
    ladder(), race(), front(), matrix(), edgeCases(), prompts(), cost(),
    section("provenance", "Where it comes from", null, facts(Object.entries(content.provenance))),
  ].filter(Boolean));
}

unfoldOnPaper("#head details");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);

// While a search runs, the page asks for what is new; a person who reads or picks something is not disturbed.
async function follow() {
  let shown = "", etag = "";
  for (;;) {
    await new Promise((done) => setTimeout(done, 1500));
    try {
      const answer = await fetch("content.json", { headers: etag ? { "If-None-Match": etag } : {} });
      if (answer.status === 304) continue;
      const text = await answer.text();
      if (text === shown || document.getElementById("detail").open || document.activeElement instanceof HTMLSelectElement) continue;
      [shown, etag] = [text, answer.headers.get("ETag") || ""];
      content = JSON.parse(text);
      const top = scrollY, unfolded = [...document.querySelectorAll("details")].map((each) => each.open);
      render();
      document.querySelectorAll("details").forEach((each, index) => { each.open = Boolean(unfolded[index]); });
      scrollTo(0, top);
      if (content.state !== "running") return;
    } catch { /* the server has ended, or is busy: what is shown stays, and it is asked again */ }
  }
}

render();
if (document.documentElement.hasAttribute("data-live")) follow();
