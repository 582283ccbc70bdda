"use strict";
// The page as a whole: draw it, redraw it when a choice or the colour scheme changes, and poll the server of unfinished runs.

function show() {
  showChips();
  showCharts(byId("charts"), data.charts);
  showLayers();
}

function showChips() {
  const paired = data.groups.some(({ role }) => role === "baseline");
  byId("legend-note").textContent = paired ? "Solid: projected optimizer; dashed, in the same hue: its baseline. " : "";
  const focused = document.activeElement?.dataset?.group;
  byId("groups").replaceChildren(...data.groups.map(({ label }) => {
    const chip = make("button", { class: "chip", type: "button", "aria-pressed": String(!hidden.has(label)), "data-group": label }, swatch(label), label);
    const only = make("button", { class: "only", type: "button", "aria-label": `show only ${label}`, textContent: "only" });
    chip.addEventListener("click", () => hide(hidden.has(label) ? [...hidden].filter((other) => other !== label) : [...hidden, label]));
    only.addEventListener("click", () => hide(data.groups.map((group) => group.label).filter((other) => other !== label)));
    return make("span", { class: "choice", "data-group": label }, chip, only);
  }));
  byId("find-group").hidden = data.groups.length <= 8;
  filterGroups();
  if (focused !== undefined) [...byId("groups").querySelectorAll(".chip")].find((chip) => chip.dataset.group === focused)?.focus();
}

/** Draw all groups but these. */
function hide(labels) {
  hidden.clear();
  for (const label of labels) hidden.add(label);
  show();
  writeAddress();
}

/** The groups that the search leaves; `All` and `None` are about these. */
function found() {
  const wanted = byId("find-group").hidden ? "" : byId("group-filter").value.toLowerCase();
  return { wanted, labels: data.groups.map(({ label }) => label).filter((label) => label.toLowerCase().includes(wanted)) };
}

function filterGroups() {
  const { wanted, labels } = found();
  for (const choice of byId("groups").children) choice.hidden = !labels.includes(choice.dataset.group);
  showRows(wanted);
}

byId("group-filter").addEventListener("input", filterGroups);
byId("show-all").addEventListener("click", () => hide([...hidden].filter((label) => !found().labels.includes(label))));
byId("show-none").addEventListener("click", () => hide([...new Set([...hidden, ...found().labels])]));

document.addEventListener("click", async (event) => {
  if (!event.target.matches?.("button.copy")) return;
  const text = event.target.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(text.textContent);
    event.target.textContent = "Copied";
  } catch { // the browser forbids it: select the text, so that a key copies it
    getSelection().selectAllChildren(text);
    event.target.textContent = "Marked";
  }
});

/** Poll the server; where nothing has changed it answers 304, without a page. */
let revision = null;
async function follow() {
  const began = performance.now();
  try {
    const answer = await fetch("/live", { headers: revision ? { "If-None-Match": revision } : {} });
    if (answer.status === 200) {
      const news = await answer.text();
      update(new DOMParser().parseFromString(news, "text/html"));
      revision = answer.headers.get("ETag");
      byId("status").textContent = `Following these runs; last change seen at ${new Date().toLocaleTimeString()}.`;
    }
  } catch {
    byId("status").textContent = "The server does not answer; this is its last state.";
    revision = null;
  }
  setTimeout(follow, Math.max(2000, 3 * (performance.now() - began)));
}

function update(news) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = news.getElementById(part.id);
    if (fresh && fresh.innerHTML !== part.innerHTML) part.innerHTML = fresh.innerHTML; // escaped by the server, as this page was
  }
  data = JSON.parse(news.getElementById("data").textContent);
  sortTable();
  show();
}

readAddress();
show();
dark.addEventListener("change", show);
if (byId("status")) follow();
