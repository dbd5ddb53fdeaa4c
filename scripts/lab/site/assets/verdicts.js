// Shows the claims of one verdict alone.
"use strict";

const buttons = [...document.querySelectorAll(".counts button")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const each of buttons) each.setAttribute("aria-pressed", String(on && each === button));
    for (const each of document.querySelectorAll("[data-mark]:not(button)")) {
      each.hidden = on && each.dataset.mark !== button.dataset.mark;
    }
  });
}

// A table that the address names opens: the report links to tables.
const openNamed = () => {
  const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (place?.tagName !== "DETAILS") return;
  place.open = true;
  place.scrollIntoView();
};
addEventListener("hashchange", openNamed);
openNamed();
