"use strict";
// State of the page: its data and what is hidden; and functions that all of its parts use.

let data = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set(); // labels of the groups that are not drawn
const dark = matchMedia("(prefers-color-scheme: dark)");
const byId = (id) => document.getElementById(id);

/** A new element; a property `class`, `aria-*`, `role` or `data-*` becomes an attribute, any other a property. Text is text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(class|role|aria-|data-)/.test(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A number as people write it: four digits, or so many, with an exponent where it is very small or large. */
function written(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(Math.min(digits - 1, 2)).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

/** Text for plotly, which reads a little HTML. */
function plain(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** A name that leaves room for other things; of a long one the end, where names differ. */
function short(name, most) {
  const letters = [...name];
  return letters.length <= most ? name : "…" + letters.slice(1 - most).join("");
}

/** Colour and dash of a group, as `styles.py` chose them. */
function styleOf(label) {
  const group = data.groups.find((each) => each.label === label);
  return { colour: group[dark.matches ? "dark" : "light"], dash: group.dash };
}

function swatch(label) {
  const { colour, dash } = styleOf(label);
  const mark = make("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.borderTopColor = colour;
  mark.style.borderTopStyle = { solid: "solid", dash: "dashed", dot: "dotted", dashdot: "dotted" }[dash];
  return mark;
}
