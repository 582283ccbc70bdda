// What arithmatex marks as mathematics is typeset by MathJax.
window.MathJax = { tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] }, options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex" } };
