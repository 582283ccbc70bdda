"use strict";
// Cards with a plot of lines in bands. A chart is { key, title, axis, log, lines: [{ group, x, mean, low, high }] }.

const logarithmic = new Map(); // the reader's choices: place and key of a chart -> whether its axis is logarithmic
const zooms = new Map(); // place and key of a chart -> { x, y }, the ends of its axes
const waiting = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    waiting.unobserve(target);
    target.drawn = true;
    plot(target);
  }
}, { rootMargin: "400px" });

/** Put a card for each chart into a container; cards that are there already are kept, so that nothing flickers. */
function showCharts(container, charts) {
  const cards = new Map([...container.children].map((card) => [card.dataset.key, card]));
  container.replaceChildren(...charts.map((chart) => {
    const card = cards.get(chart.key) ?? newCard(container, chart);
    card.chart = chart;
    card.querySelector("h3").textContent = chart.title;
    card.querySelector("button.log").setAttribute("aria-pressed", String(isLog(card)));
    card.querySelector(".last").replaceChildren(...visible(chart).map(lastValue));
    card.querySelector(".plot").setAttribute("aria-label", described(chart));
    if (card.drawn) plot(card);
    return card;
  }));
  for (const [key, card] of cards) if (!card.isConnected) forget(key, card);
}

function newCard(container, chart) {
  const button = make("button", { type: "button", class: "log", "aria-label": `log axis of ${chart.title}`, textContent: "log" });
  const files = ["svg", "png"].map((format) => make("button", { type: "button", class: "file", "data-format": format,
    "aria-label": `download ${chart.title} as ${format.toUpperCase()}`, textContent: format.toUpperCase() }));
  const card = make("figure", { class: "chart", "data-key": chart.key },
    make("header", {}, make("h3"), make("span", { class: "buttons" }, button, ...files)), make("div", { class: "plot", role: "img" }), make("ul", { class: "last" }));
  card.place = container.id;
  button.addEventListener("click", () => {
    logarithmic.set(card.place + chart.key, !isLog(card));
    zooms.delete(card.place + chart.key);
    button.setAttribute("aria-pressed", String(isLog(card)));
    plot(card);
    writeAddress();
  });
  for (const file of files) file.addEventListener("click", () => savePlot(card, file.dataset.format));
  waiting.observe(card);
  return card;
}

function forget(key, card) {
  waiting.unobserve(card);
  Plotly.purge(card.querySelector(".plot"));
}

function isLog(card) {
  return logarithmic.get(card.place + card.chart.key) ?? card.chart.log;
}

function visible(chart) {
  return chart.lines.filter((line) => !hidden.has(line.group));
}

/** The last value of a line as text, for readers without a mouse or with a screen reader. */
function lastValue(line) {
  return make("li", { "data-group": line.group }, swatch(line.group), short(line.group, 40), make("b", { textContent: written(line.mean.at(-1)) }));
}

function described(chart) {
  const ends = visible(chart).map((line) => `${line.group} from ${written(line.mean[0])} to ${written(line.mean.at(-1))}`);
  return `${chart.title} by ${chart.unit ?? data.unit}: ${ends.join("; ")}`;
}

function traces(line) {
  const { colour, dash } = styleOf(line.group);
  const name = plain(short(line.group, 40));
  const band = { x: [...line.x, ...line.x.toReversed()], y: [...line.high, ...line.low.toReversed()], fill: "toself", mode: "lines",
    fillcolor: colour + "2b", line: { width: 0, color: colour }, hoverinfo: "skip" };
  const range = line.mean.map((_, i) => `${written(line.mean[i])}  (${written(line.low[i])} to ${written(line.high[i])})`);
  const curve = { x: line.x, y: line.mean, text: range, hovertemplate: `%{text}<br>${plain(data.unit)} %{x}<extra>${name}</extra>`, name, mode: line.x.length < 2 ? "markers" : "lines",
    line: { width: 2.5, color: colour, dash } };
  const expected = line.expected && { x: line.x, y: line.expected, mode: "lines", line: { width: 1.5, color: colour, dash: "dot" },
    name: name + ", equilibrium", hovertemplate: "%{y:.3~g}" };
  return [band, curve, ...(expected ? [expected] : [])];
}

function plot(card) {
  const lines = visible(card.chart), log = isLog(card), unit = card.chart.unit ?? data.unit;
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line, page] = ["--ink", "--soft", "--line", "--page"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true, tickfont: { color: soft, size: 11.5 }, title: { standoff: 8 } };
  const last = Math.max(1, ...lines.map((each) => each.x.at(-1)));
  const zoom = zooms.get(card.place + card.chart.key), range = zoom?.y ?? laterRange(lines, log);
  Plotly.react(card.querySelector(".plot"), lines.flatMap(traces), {
    xaxis: { ...axis, ...(zoom ? { range: zoom.x } : {}), title: { ...axis.title, text: plain(unit) }, ...(unit === "epoch" && last <= 10 ? { dtick: 1 } : {}) },
    yaxis: { ...axis, ...(range ? { range } : {}), title: { ...axis.title, text: plain(short(card.chart.axis, 36)) }, type: log ? "log" : "linear",
      ...(log ? { exponentformat: "power", tickfont: { color: soft, size: 10.5 }, ...ticks(lines) } : {}) },
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", showlegend: false, margin: { l: 10, r: 14, t: 14, b: 10 },
    font: { color: ink, size: 13, family: 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif' },
    hovermode: "closest", hoverdistance: 30, hoverlabel: { bgcolor: page, bordercolor: line, font: { color: ink } },
    uirevision: `${log} ${zoom ? [...zoom.x, ...zoom.y] : ""}`, // a zoom stays when data arrive
  }, { responsive: true, displayModeBar: false, doubleClick: "autosize" }).then((drawn) => followZoom(card, drawn));
}

/** Note what the reader zooms into; a double click shows everything, the start of training too. */
function followZoom(card, drawn) {
  if (drawn.followed) return;
  drawn.followed = true;
  drawn.on("plotly_relayout", (change) => {
    const key = card.place + card.chart.key;
    if (change["xaxis.autorange"] || change["yaxis.autorange"]) zooms.delete(key);
    else if ("xaxis.range[0]" in change || "yaxis.range[0]" in change) {
      zooms.set(key, { x: [...drawn.layout.xaxis.range], y: [...drawn.layout.yaxis.range] });
    } else return;
    writeAddress();
  });
}

/** The range of the second half of training, where the first would squeeze it into less than a third of the height. */
function laterRange(lines, log) {
  const scale = (value) => (log ? Math.log10(value) : value);
  const ends = (values) => values.filter(Number.isFinite).reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const from = (share) => ends(lines.flatMap((line) => [line.low, line.high].flatMap((values) => values.slice(Math.floor(share * values.length)).map(scale))));
  const [low, high] = from(0), [later, most] = from(0.5);
  if (!(most > later) || lines.some((line) => line.x.length < 10) || most - later > (high - low) / 3) return null;
  const margin = 0.08 * (most - later);
  return [later - margin, most + margin];
}

/** A logarithmic axis over several decades has their ends as ticks; over less, plotly chooses. */
function ticks(lines) {
  const positive = lines.flatMap((line) => [...line.low, ...line.high]).filter((value) => value > 0);
  return Math.max(...positive) > 30 * Math.min(...positive) ? { dtick: 1 } : {};
}
