"use strict";
// What the theme leaves to be said for readers without a mouse or with a screen reader.

addEventListener("load", () => setTimeout(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap")) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0; // so that the arrow keys reach its end
  }
}));
