// What Material leaves to the site: names and keyboard access of its parts.
"use strict";
document$.subscribe(() => {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  // A table, formula or picture that scrolls sideways can be reached and moved by keyboard.
  const picture = document.querySelector('img[src$="picture.svg"]')?.parentElement;
  const boxes = document.querySelectorAll(".md-typeset__scrollwrap, .formula");
  for (const box of [...boxes, picture ?? []].flat()) box.tabIndex = 0;
});
