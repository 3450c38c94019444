// What axe-core asks of a page, and the theme does not do by itself: code and tables that scroll can be reached by keys,
// each box of buttons has a name of its own, and a column without a heading has no empty one.
function mend() {
  for (const area of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) area.tabIndex = 0
  document.querySelectorAll(".md-code__nav").forEach((box, i) => box.setAttribute("aria-label", `Code ${i + 1}`))
  for (const cell of document.querySelectorAll("th:empty")) cell.replaceWith(document.createElement("td"))
}

mend()
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true })
