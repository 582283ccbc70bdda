"use strict";
// The gallery's filter: a row is shown if it has every word. The words are in the address, so that a search can be linked.

const galleryFilter = document.getElementById("gallery-filter");

function filterGallery() {
  const words = galleryFilter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.querySelectorAll("article table tbody tr")];
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  document.getElementById("gallery-count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} models`;
  history.replaceState(null, "", words.length ? `#find=${encodeURIComponent(galleryFilter.value)}` : location.pathname);
}

if (galleryFilter) {
  if (location.hash.startsWith("#find=")) galleryFilter.value = decodeURIComponent(location.hash.slice(6));
  galleryFilter.addEventListener("input", filterGallery);
  filterGallery();
}
