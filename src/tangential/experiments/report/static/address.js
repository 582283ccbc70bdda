"use strict";
// What the reader chose, in the part of the address behind `#view`: whoever opens that link sees the same.

const VIEW = "#view?";

function writeAddress() {
  const words = new URLSearchParams();
  for (const label of hidden) words.append("hide", label);
  if (chosen.layer !== null && data.layers && chosen.picked) words.set("layer", data.layers.names[chosen.layer]);
  if (chosen.picked) for (const key of ["figure", "run"]) if (chosen[key]) words.set(key, chosen[key]);
  for (const [key, on] of logarithmic) words.append("log", `${Number(on)}${key}`);
  for (const [key, { x, y }] of zooms) words.append("zoom", [...x, ...y, key].join(" "));
  const text = words.toString();
  if (text || location.hash.startsWith(VIEW)) history.replaceState(null, "", text ? VIEW + text : location.pathname + location.search);
}

function readAddress() {
  if (!location.hash.startsWith(VIEW)) return;
  const words = new URLSearchParams(location.hash.slice(VIEW.length));
  const labels = new Set(data.groups.map(({ label }) => label));
  hidden.clear();
  for (const label of words.getAll("hide")) if (labels.has(label)) hidden.add(label);
  logarithmic.clear();
  for (const text of words.getAll("log")) logarithmic.set(text.slice(1), text[0] === "1");
  zooms.clear();
  for (const text of words.getAll("zoom")) {
    const [, ...parts] = text.match(/^(\S+) (\S+) (\S+) (\S+) (.*)$/s) ?? [];
    const ends = parts.slice(0, 4).map(Number);
    if (parts.length && ends.every(Number.isFinite)) zooms.set(parts[4], { x: ends.slice(0, 2), y: ends.slice(2) });
  }
  const layer = data.layers?.names.indexOf(words.get("layer")) ?? -1;
  if (layer >= 0) Object.assign(chosen, { layer, picked: true });
  for (const key of ["figure", "run"]) if (words.has(key)) Object.assign(chosen, { [key]: words.get(key), picked: true });
}

window.addEventListener("hashchange", () => {
  if (!location.hash.startsWith(VIEW)) return;
  readAddress();
  show();
});
