"use strict";
// The layer explorer: a heat map of weights against epochs, one row a weight, and the curves of the row that is chosen.

const chosen = { figure: null, run: "", layer: null, column: -1, find: "", picked: false }; // picked: by the reader
const viridis = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"]
  .map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

function colourAt(share) {
  const place = Math.min(Math.max(share, 0), 1) * (viridis.length - 1);
  const low = Math.min(Math.floor(place), viridis.length - 2);
  return viridis[low].map((value, i) => Math.round(value + (place - low) * (viridis[low + 1][i] - value)));
}

/** Mean, least and greatest of some runs' values of one weight, column by column, over the runs that have one. */
function summarised(runs, figure, layer) {
  const longest = runs.reduce((one, other) => (other.x.length > one.x.length ? other : one));
  const summary = { x: [], mean: [], low: [], high: [] };
  longest.x.forEach((x, column) => {
    const there = runs.map((run) => run.values[figure]?.[layer]?.[column] ?? null).filter((value) => value !== null);
    if (!there.length) return;
    summary.x.push(x);
    summary.mean.push(there.reduce((sum, value) => sum + value, 0) / there.length);
    summary.low.push(Math.min(...there));
    summary.high.push(Math.max(...there));
  });
  return summary;
}

/** The runs behind the chosen entry of the menu: all seeds of a group, or one of them. */
function exploredRuns() {
  const [group, seed] = JSON.parse(chosen.run);
  return data.layers.runs.filter((run) => run.group === group && (seed === null || run.seed === seed));
}

/** `cells[layer][column]`: the mean over the chosen runs. */
function cells(runs, figure) {
  const columns = Math.max(...runs.map((run) => run.x.length));
  return data.layers.names.map((_, layer) => Array.from({ length: columns }, (_, column) => {
    const there = runs.map((run) => run.values[figure]?.[layer]?.[column] ?? null).filter((value) => value !== null);
    return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : null;
  }));
}

/** The range of a figure over all runs, so that a colour means the same for each of them. */
function range(figure) {
  let low = Infinity, high = -Infinity;
  for (const run of data.layers.runs) for (const row of run.values[figure.key] ?? []) for (const value of row) {
    if (value === null || (figure.ratio && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return figure.ratio ? { low, high } : { low: 0, high: Math.max(high, 1e-9) };
}

function share(value, { low, high }, ratio) {
  if (ratio) return value > 0 ? Math.log(value / low) / Math.log(high / low || 1) || 0 : 0;
  return (value - low) / (high - low);
}

/** Fill in the controls anew: runs and figures may have been added. */
function showControls() {
  const { figures, runs, names } = data.layers;
  const options = data.groups.flatMap(({ label }) => {
    const seeds = runs.filter((run) => run.group === label).map((run) => run.seed);
    const one = seeds.map((seed) => [JSON.stringify([label, seed]), `${label}, seed ${seed}`]);
    return seeds.length > 1 ? [[JSON.stringify([label, null]), `${label}, mean of ${seeds.length} seeds`], ...one] : one;
  });
  if (!options.some(([value]) => value === chosen.run)) chosen.run = options[0][0];
  byId("run").replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text, selected: value === chosen.run })));
  if (!figures.some(({ key }) => key === chosen.figure)) chosen.figure = figures[0].key;
  byId("figures").replaceChildren(byId("figures").firstElementChild, ...figures.map(({ key, title }) =>
    make("label", {}, make("input", { type: "radio", name: "figure", value: key, checked: key === chosen.figure }), title)));
  byId("find").hidden = names.length <= 12;
  byId("layers-unit").textContent = data.layers.unit;
  const balance = runs.some((run) => run.values.equilibrium) ? ["Dotted line of the angle: equilibrium of weight decay and updates."] : [];
  byId("layers-notes").textContent = [...balance, ...data.layers.notes].join(" ");
}

function showLayers() {
  byId("layers").hidden = byId("to-layers").hidden = !data.layers;
  if (!data.layers) return;
  showControls();
  showMap();
  showLayer();
}

let map = null; // what is on the screen: { figure, runs, cells, x }

function showMap() {
  const figure = data.layers.figures.find(({ key }) => key === chosen.figure);
  const runs = exploredRuns(), bounds = range(figure);
  const longest = runs.reduce((one, other) => (other.x.length > one.x.length ? other : one));
  map = { figure, runs, cells: cells(runs, figure.key), x: longest.x };
  const room = Math.max(Math.floor((0.36 * byId("rows").clientWidth) / 8.2), 8); // letters that a row has for its name
  const tail = data.layers.names.some((name) => name.length > room) ? commonTail(data.layers.names) : 0;
  const shown = data.layers.names.map((name, layer) => ({ name, layer }))
    .filter(({ name }) => name.toLowerCase().includes(chosen.find.toLowerCase()));
  if (!shown.some(({ layer }) => layer === chosen.layer)) chosen.layer = shown[0]?.layer ?? null;
  chosen.column = Math.min(chosen.column < 0 ? Infinity : chosen.column, map.x.length - 1);
  byId("rows").style.setProperty("--row", `${Math.min(Math.max(Math.floor(400 / shown.length), 20), 52)}px`);
  byId("rows").style.setProperty("--columns", map.x.length);
  byId("rows").replaceChildren(...shown.map(({ name, layer }) => row(name, layer, bounds, short(name.slice(0, name.length - tail), room))));
  if (!shown.length) byId("rows").append(make("p", { class: "soft", textContent: "No weight matches." }));
  const middle = map.x[Math.floor((map.x.length - 1) / 2)];
  byId("ticks").replaceChildren(...[map.x[0], middle, map.x.at(-1)].map((x, i) =>
    make("span", { textContent: i ? String(x) : `${data.layers.unit} ${x}` })));
  byId("scale-title").textContent = figure.axis + (figure.ratio ? ", log scale" : "");
  byId("scale-low").textContent = written(bounds.low, 2);
  byId("scale-high").textContent = written(bounds.high, 2);
  paint(byId("scale-bar"), Array.from({ length: 128 }, (_, i) => i / 127));
  showChosen();
}

/** How long the last part of all names is, such as ".weight", if it is the same for all. */
function commonTail(names) {
  const last = names[0].slice(names[0].lastIndexOf("."));
  return names.length > 1 && names.every((name) => name.endsWith(last) && name !== last) ? last.length : 0;
}

function row(name, layer, bounds, label) {
  const values = map.cells[layer];
  const canvas = make("canvas", { width: values.length, height: 1, "aria-hidden": "true" });
  paint(canvas, values.map((value) => (value === null ? null : share(value, bounds, map.figure.ratio))));
  const there = values.filter((value) => value !== null);
  const option = make("div", { class: "row", role: "option", id: `row-${layer}`, title: name, "data-layer": layer,
    "aria-label": `${name}: ${map.figure.title} from ${written(there[0])} to ${written(there.at(-1))}` },
    make("span", { class: "name", textContent: label }), make("span", { class: "strip" }, canvas));
  return option;
}

function paint(canvas, shares) {
  const image = new ImageData(shares.length, 1);
  shares.forEach((value, i) => image.data.set(value === null ? [0, 0, 0, 0] : [...colourAt(value), 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Mark the chosen row and column, and write the value there. */
function showChosen() {
  const rows = byId("rows");
  for (const option of rows.querySelectorAll("[role=option]")) option.setAttribute("aria-selected", String(Number(option.dataset.layer) === chosen.layer));
  if (chosen.layer === null) rows.removeAttribute("aria-activedescendant");
  else rows.setAttribute("aria-activedescendant", `row-${chosen.layer}`);
  rows.style.setProperty("--cursor", chosen.column / map.x.length);
  showValue(chosen.layer, chosen.column);
}

function showValue(layer, column) {
  byId("readout").textContent = layer === null ? ""
    : `${data.layers.names[layer]}, ${data.layers.unit} ${map.x[column]}: ${map.figure.axis} ${written(map.cells[layer][column])}`;
}

/** The curves of the chosen weight, of every group, seeds as a band. */
function showLayer() {
  byId("layer-name").textContent = chosen.layer === null ? "" : data.layers.names[chosen.layer];
  byId("layer-about").textContent = chosen.layer === null ? "" : data.layers.about[chosen.layer];
  showCharts(byId("layer-charts"), chosen.layer === null ? [] : data.layers.figures.map((figure) => ({ ...figure, unit: data.layers.unit, lines: layerLines(figure) })));
}

function layerLines(figure) {
  return data.groups.flatMap(({ label }) => {
    const runs = data.layers.runs.filter((run) => run.group === label);
    if (!runs.length) return [];
    const line = { group: label, ...summarised(runs, figure.key, chosen.layer) };
    const balance = figure.key === "angle" ? summarised(runs, "equilibrium", chosen.layer) : null;
    if (balance?.x.length === line.x.length) line.expected = balance.mean;
    return line.x.length ? [line] : [];
  });
}

/** Move the choice; what lies outside the map is its edge. */
function choose(layer, column) {
  const other = layer !== chosen.layer;
  chosen.layer = layer;
  chosen.column = Math.min(Math.max(column, 0), map.x.length - 1);
  showChosen();
  byId(`row-${layer}`)?.scrollIntoView({ block: "nearest" });
  if (other) showLayer();
}

/** Which row and column a pointer is over. */
function pointed(event) {
  const option = event.target.closest("[role=option]");
  if (!option) return null;
  const { left, width } = option.querySelector(".strip").getBoundingClientRect();
  const over = Math.floor(((event.clientX - left) / width) * map.x.length);
  return { layer: Number(option.dataset.layer), column: over < 0 ? chosen.column : Math.min(over, map.x.length - 1) };
}

byId("rows").addEventListener("click", (event) => {
  const place = pointed(event);
  if (place) choose(place.layer, place.column);
  pick();
});
byId("rows").addEventListener("pointermove", (event) => {
  const place = pointed(event);
  if (!place) return;
  byId("rows").style.setProperty("--cursor", place.column / map.x.length);
  showValue(place.layer, place.column);
});
byId("rows").addEventListener("pointerleave", showChosen);
byId("rows").addEventListener("keydown", (event) => {
  const layers = [...byId("rows").querySelectorAll("[role=option]")].map((option) => Number(option.dataset.layer));
  const place = layers.indexOf(chosen.layer), last = layers.length - 1;
  const moves = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1], PageDown: [10, 0], PageUp: [-10, 0], Home: [-last, 0], End: [last, 0] };
  if (!moves[event.key] || last < 0) return;
  event.preventDefault();
  const [down, right] = moves[event.key];
  choose(layers[Math.min(Math.max(place + down, 0), last)], chosen.column + right);
  pick();
});

/** The reader has chosen: the address says what. */
function pick() {
  chosen.picked = true;
  writeAddress();
}

window.addEventListener("resize", () => { if (data.layers) showMap(); });
byId("figures").addEventListener("change", (event) => { chosen.figure = event.target.value; showMap(); pick(); });
byId("run").addEventListener("change", (event) => { chosen.run = event.target.value; showMap(); pick(); });
byId("filter").addEventListener("input", (event) => { chosen.find = event.target.value; showMap(); showLayer(); });
