"use strict";
// The paper's toy in the plane, with sliders: f(w) = (1 + y / |w|)^2, whose value depends on the direction of w alone.
// A browser test compares `toy.run` with `tangential.paper.toys`.

const toy = (() => {
  const START = [0.001, 1], STEPS = 500, EPS = 1e-8, WD_RATIO = 0.1;
  const RULES = { SGD: sgd, SGDP: sgdp };
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const loss = (w) => (1 + w[1] / Math.sqrt(dot(w, w))) ** 2;

  function gradient([x, y]) {
    const r = Math.sqrt(x * x + y * y), outer = 2 * (1 + y / r) / r ** 3;
    return [-outer * x * y, outer * x * x];
  }

  /** Coupled decay: it is added to the gradient, and momentum remembers it. */
  function sgd(w, p, { lr, momentum, decay }) {
    const g = gradient(w);
    p = p.map((each, i) => momentum * each + g[i] + decay * w[i]);
    return [w.map((each, i) => each - lr * p[i]), p];
  }

  /** Algorithm 1: the part of the step along the weight is taken out; the decay is decoupled, a tenth of SGD's. */
  function sgdp(w, p, { lr, momentum, decay }) {
    const g = gradient(w);
    p = p.map((each, i) => momentum * each + g[i]);
    const radial = dot(w, p) / (Math.sqrt(dot(w, w)) + EPS) ** 2;
    const keep = 1 - lr * (decay / (1 - momentum) * WD_RATIO - radial);
    return [w.map((each, i) => keep * each - lr * p[i]), p];
  }

  /** The weights before each step and after the last, of one optimizer. */
  function trajectory(rule, settings) {
    const points = [START];
    for (let step = 0, w = START, p = [0, 0]; step < STEPS; step++) {
      [w, p] = RULES[rule](w, p, settings);
      points.push(w);
    }
    return points;
  }

  function run(settings) {
    return Object.fromEntries(Object.keys(RULES).map((rule) => {
      const points = trajectory(rule, settings);
      return [rule, { points, norms: points.map((w) => Math.sqrt(dot(w, w))), losses: points.map(loss) }];
    }));
  }

  function element(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const short = (value) => (value !== 0 && (Math.abs(value) < 0.01 || Math.abs(value) >= 1000) ? value.toExponential(1) : value.toFixed(2));

  /** A plot of lines, each a list of [x, y]; `log` for a logarithmic y. */
  function plot(title, lines, { log = false, square = false } = {}) {
    const y = (value) => (log ? Math.log10(Math.max(value, 1e-12)) : value);
    const all = Object.values(lines).flat().filter((point) => point.every(Number.isFinite));
    const ends = (values) => [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    let [left, right, low, high] = [...ends(all.map((p) => p[0])), ...ends(all.map((p) => y(p[1])))];
    if (square) [left, right, low, high] = ((most) => [-most, most, -most, most])(Math.max(-left, right, -low, high));
    const span = (from, to) => to - from || 1;
    const at = (p) => `${(4 + 92 * (p[0] - left) / span(left, right)).toFixed(2)},${(92 - 84 * (y(p[1]) - low) / span(low, high)).toFixed(2)}`;
    const drawn = Object.entries(lines).map(([name, points]) =>
      element("polyline", { class: `toy-${name}`, points: points.filter((p) => p.every(Number.isFinite)).map(at).join(" ") }));
    const labels = [high, low].map((value, i) => element("text", { x: 4, y: i ? 99 : 6 }, short(log ? 10 ** value : value)));
    return element("svg", { viewBox: "0 0 100 100", role: "img", "aria-label": title }, ...drawn, ...(square ? [] : labels));
  }

  function show(box) {
    const settings = Object.fromEntries([...box.querySelectorAll("input")].map((input) =>
      [input.name, input.dataset.log ? 10 ** input.value : Number(input.value)]));
    for (const input of box.querySelectorAll("input")) input.nextElementSibling.textContent = String(Number(settings[input.name].toPrecision(2)));
    const found = run(settings), pick = (of) => Object.fromEntries(Object.entries(found).map(([name, each]) => [name, of(each)]));
    const figure = (caption, svg) => {
      const made = document.createElement("figure"), text = document.createElement("figcaption");
      text.textContent = caption;
      made.append(svg, text);
      return made;
    };
    const steps = (values) => values.map((value, step) => [step, value]);
    box.querySelector(".toy-plots").replaceChildren(
      figure("path of the weight", plot("path of the weight in the plane", pick(({ points }) => points), { square: true })),
      figure("weight norm by step", plot("weight norm by step", pick(({ norms }) => steps(norms)))),
      figure("loss by step, log scale", plot("loss by step", pick(({ losses }) => steps(losses)), { log: true })));
    const end = (name) => `${name} ends with norm ${short(found[name].norms.at(-1))} and loss ${short(found[name].losses.at(-1))}`;
    box.querySelector(".toy-result").textContent = `${end("SGD")}; ${end("SGDP")}.`;
  }

  const box = document.getElementById("toy");
  if (box) {
    box.addEventListener("input", () => show(box));
    show(box);
  }
  return { run };
})();
