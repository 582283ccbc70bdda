"use strict";
// Files of what the page shows: its numbers as CSV and JSON, its plots as SVG and PNG. Nothing leaves the machine.

function save(name, kind, text) {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A cell of a CSV file. Text that a spreadsheet would take for a formula gets an apostrophe. */
function cell(value) {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Every point of every visible curve. */
function asCsv() {
  const lines = [["quantity", "group", data.unit, "mean", "minimum", "maximum"]];
  for (const chart of data.charts) for (const line of visible(chart)) {
    line.x.forEach((x, i) => lines.push([chart.axis, line.group, x, line.mean[i], line.low[i], line.high[i]]));
  }
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

byId("save-csv").addEventListener("click", () => save("report.csv", "text/csv", asCsv()));
byId("save-json").addEventListener("click", () => save("report.json", "application/json", JSON.stringify(data)));

/** Save the plot of a card; its ground is the page's, so that a dark plot is legible anywhere. */
function savePlot(card, format) {
  const size = format === "png" ? { width: 900, height: 540, scale: 2 } : { width: 900, height: 540 };
  const filename = card.chart.key.replace(/[^\w.-]+/g, "_").slice(0, 80) || "plot";
  return Plotly.toImage(pictureOf(card), { format, ...size }).then((address) =>
    make("a", { href: address, download: `${filename}.${format}` }).click());
}

/** The plot with a title, a legend and a ground, as it stands alone. */
function pictureOf(card) {
  const plot = card.querySelector(".plot"), ground = getComputedStyle(document.body).backgroundColor;
  const traces = plot.data.map((trace) => ({ ...trace, showlegend: Boolean(trace.name) }));
  const legend = { orientation: "h", y: -0.2 };
  return { data: traces, layout: { ...plot.layout, title: { text: plain(card.chart.title) }, showlegend: true, legend,
    paper_bgcolor: ground, plot_bgcolor: ground, margin: { l: 70, r: 20, t: 50, b: 60 } } };
}
