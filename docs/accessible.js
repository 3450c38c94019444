// What axe-core asks of a page, and the theme does not do by itself: code and tables that scroll can be reached by keys,
// each box of buttons has a name of its own, a column without a heading has no empty one, and the contents of a page are
// one landmark, not one for each class.
function mend() {
  for (const area of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) area.tabIndex = 0
  document.querySelectorAll(".md-code__nav").forEach((box, i) => box.setAttribute("aria-label", `Code ${i + 1}`))
  for (const cell of document.querySelectorAll("th:empty")) cell.replaceWith(document.createElement("td"))
  for (const part of document.querySelectorAll(".md-nav--secondary nav[aria-label]")) {
    part.removeAttribute("aria-label")
    part.role = "presentation"
  }
}

mend()
new MutationObserver(mend).observe(document.body, { childList: true, subtree: true })
