"use strict";
// Tables that sort by a click on a heading. The order outlives an update of the page.

let sorting = null; // { column, down }

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button.sort");
  if (!button) return;
  const column = Number(button.dataset.column);
  sorting = { column, down: sorting?.column === column ? !sorting.down : column > 0 };
  sortTable();
});

/** The number that a cell begins with, or its text; cells without either come last. */
function sortKey(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace("−", "-").replace(/,(?=\d{3})/g, ""));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compared(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : Number(a > b);
  return typeof a === "number" ? -1 : 1;
}

function sortTable() {
  const table = document.querySelector(".results");
  if (!table || !sorting) return;
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: sortKey(row, sorting.column) }));
  const there = rows.filter(({ key }) => key !== ""), without = rows.filter(({ key }) => key === "");
  there.sort((a, b) => compared(a.key, b.key) * (sorting.down ? -1 : 1));
  table.tBodies[0].append(...[...there, ...without].map(({ row }) => row));
  for (const heading of table.tHead.rows[0].cells) {
    const own = Number(heading.firstElementChild.dataset.column) === sorting.column;
    heading.setAttribute("aria-sort", own ? (sorting.down ? "descending" : "ascending") : "none");
  }
}

/** Rows of groups that are hidden are pale; those that the filter leaves out are gone. */
function showRows(wanted) {
  for (const row of document.querySelectorAll(".results tbody tr")) {
    row.hidden = !row.dataset.group.toLowerCase().includes(wanted);
    row.classList.toggle("off", hidden.has(row.dataset.group));
  }
}
