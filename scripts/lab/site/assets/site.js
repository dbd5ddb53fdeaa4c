// What all pages share: data that scripts bring, elements, numbers as text, the state in the address.
"use strict";

const site = { waiting: new Map(), texts: new Map() };

// Data files call this: base64 of gzip of JSON.
site.packed = (name, text) => site.texts.set(name, text);

// The data under a name: its script is loaded once. Rejects, with the file's name, where it is not there.
site.load = (name) => {
  if (!site.waiting.has(name)) {
    const loaded = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${script.src}: cannot be read`));
      document.head.append(script);
    });
    site.waiting.set(name, loaded.then(() => site.unpacked(name)));
  }
  return site.waiting.get(name);
};

site.unpacked = async (name) => {
  const bytes = site.bytes(site.texts.get(name));
  site.texts.delete(name);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

site.bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// el("a", {href: "x"}, "text", child): texts are texts, never markup. A property that is null or false is left out.
site.el = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

// A number as a person would write it; the same rule as the report's.
site.short = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (Number.isInteger(value) && size < 1e15) return value.toLocaleString("en-US");
  if (size >= 1e6 || size < 1e-3) return value.toExponential(digits - 1);
  if (size >= 10 ** digits) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(digits)));
};

site.percent = (share, digits = 1) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}%`);

// "" and what is no number stand behind all numbers.
site.compare = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  const known = [a !== "" && !Number.isNaN(x), b !== "" && !Number.isNaN(y)];
  if (known[0] && known[1]) return x - y;
  if (known[0] !== known[1]) return known[0] ? -1 : 1;
  return String(a).localeCompare(String(b), "en", { numeric: true });
};

// The part of the address behind #, as {name: text}, and back.
site.state = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
site.keep = (state) => {
  const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
};

// A list to choose from. choices: texts, or [value, text].
site.choice = (label, choices, value, change) => {
  const options = choices.map((each) => {
    const [key, text] = Array.isArray(each) ? each : [each, each];
    return site.el("option", { value: key, selected: String(key) === String(value) }, text);
  });
  const select = site.el("select", { onchange: (event) => change(event.target.value) }, ...options);
  return site.el("label", {}, label, select);
};

// A share as a person would say it, "released" and the like as they are.
site.sparsity = (text) => (text === "0" ? "dense" : Number.isNaN(Number(text)) ? text : `${site.short(100 * Number(text))}%`);

// Stays in sight where a wide table scrolls under it.
site.caption = (text) => site.el("caption", {}, site.el("span", {}, text));

site.unique = (values) => [...new Set(values)].sort(site.compare);

site.fail = (place, error) => {
  place.replaceChildren(site.el("p", { role: "alert", class: "no" }, `This page could not be shown: ${error.message}`));
  console.error(error);
};

// A short text beside the pointer.
site.tip = (event, text) => {
  site.tipElement ??= document.body.appendChild(site.el("div", { class: "tip", role: "status", hidden: true }));
  const tip = site.tipElement;
  tip.hidden = text === null;
  if (text === null) return;
  tip.textContent = text;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8))}px`;
};

// Draws anew where the width changes.
site.onWidth = (element, draw) => {
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth && element.clientWidth !== width) draw((width = element.clientWidth));
  }).observe(element);
};

// Tables that stand in the page already: headers that sort, by data-value where a cell has one.
site.sortable = (table) => {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = site.el("button", { type: "button" }, ...header.childNodes);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((each) => each.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? -1 : 1) * site.compare(key(a), key(b)));
      table.tBodies[0].append(...rows);
    });
    header.replaceChildren(button);
  });
};
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(site.sortable);
  const here = document.querySelector("nav [aria-current]"); // in sight, where a narrow screen has not all pages' names
  here.parentElement.scrollLeft = here.offsetLeft + here.offsetWidth - here.parentElement.clientWidth;
});
