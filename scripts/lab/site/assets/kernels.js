// Times of kernels and of the parts of a call, by set, call and sparsity.
"use strict";

const page = document.getElementById("times");
const SETS = ["kernels side by side", "single calls", "calls in a row", "parts of a call"];

const quantile = (samples, share) => d3.quantile([...samples].sort((a, b) => a - b), share);

const showTimes = (cells) => {
  const state = site.state();
  const pick = (name, values, wanted) => (values.includes(state[name]) ? state[name] : values.includes(wanted) ? wanted : values[0]);
  const sets = SETS.filter((name) => cells.some((cell) => cell.set === name));
  const set = pick("set", sets);
  const ofSet = cells.filter((cell) => cell.set === set);
  const gpus = site.unique(ofSet.map((cell) => cell.gpu));
  const gpu = pick("gpu", gpus);
  const ofGpu = ofSet.filter((cell) => cell.gpu === gpu);
  const calls = site.unique(ofGpu.map((cell) => cell.call));
  const call = pick("call", calls);
  const ofCall = ofGpu.filter((cell) => cell.call === call);
  const sparsities = site.unique(ofCall.map((cell) => cell.sparsity));
  const sparsity = pick("sparsity", sparsities, "0.9");
  const found = ofCall.filter((cell) => cell.sparsity === sparsity);
  const masks = site.unique(found.map((cell) => cell.mask));
  const mask = state.mask === "all" || masks.length < 2 ? "all" : pick("mask", masks, "draft");
  const chosen = found.filter((cell) => mask === "all" || cell.mask === mask).sort((a, b) => a.median - b.median);
  const log = state.axis === "log";
  const change = (name) => (value) => {
    site.keep({ set, gpu, call, sparsity, mask, axis: state.axis, [name]: value });
    showTimes(cells);
  };
  const groups = chosen.map((cell) => ({
    name: cell.name + (mask === "all" && masks.length > 1 ? `, ${cell.mask}` : ""),
    samples: cell.samples,
    link: cell.link,
    ours: cell.ours,
    middle: cell.median,
    low: quantile(cell.samples, 0.1),
    high: quantile(cell.samples, 0.9),
    tell: (sample, number) =>
      `${cell.name}\nsample ${number + 1} of ${cell.samples.length}: ${sample.toFixed(4)} ms\nmedian ${cell.median.toFixed(4)} ms`,
  }));
  const chart = site.el("div");
  const clocks = (cell) => cell.clock.map((each) => (each === null ? "–" : Math.round(each))).join(" → ");
  const table = site.el(
    "table",
    { class: "sticky" },
    site.caption("In brackets the 10% and 90% quantiles. SM clock before and after the samples; power after them; what NVML says slowed the clock."),
    site.el("thead", {}, site.el("tr", {}, ...["what", "mask", "median (ms)", "samples in the order taken (ms)", "SM clock (MHz)", "power (W)", "slowed by", "commit"].map((text, place) =>
      site.el("th", { scope: "col", class: [2, 4, 5].includes(place) ? "number" : null }, text)))),
    site.el("tbody", {}, ...chosen.map((cell, place) => site.el("tr", {},
      site.el("th", { scope: "row" }, site.el("a", { href: cell.link, class: cell.ours ? "ours" : null }, cell.name)),
      site.el("td", {}, cell.mask),
      site.el("td", { class: "number" }, site.el("a", { href: cell.link }, site.short(cell.median, 4)), site.el("span", { class: "interval" }, ` [${site.short(groups[place].low, 4)}, ${site.short(groups[place].high, 4)}]`)),
      site.el("td", { class: "mono long" }, cell.samples.map((sample) => sample.toPrecision(5)).join(" ")),
      site.el("td", { class: "number" }, clocks(cell)),
      site.el("td", { class: "number" }, site.short(cell.power)),
      site.el("td", {}, cell.throttled.join(", ") || "–"),
      site.el("td", { class: "mono" }, cell.commit)))),
  );
  const runs = site.unique(chosen.map((cell) => cell.run));
  page.replaceChildren(
    site.el("div", { class: "panel" },
      site.el("div", { class: "controls" },
        site.choice("what", sets, set, change("set")),
        ...(gpus.length > 1 ? [site.choice("GPU", gpus, gpu, change("gpu"))] : []),
        site.choice("call", calls, call, change("call")),
        site.choice("sparsity", sparsities.map((text) => [text, site.sparsity(text)]), sparsity, change("sparsity")),
        ...(masks.length > 1 ? [site.choice("mask", ["all", ...masks], mask, change("mask"))] : []),
        site.choice("axis", [["", "from 0"], ["log", "logarithmic"]], log ? "log" : "", change("axis"))),
      site.el("p", { class: "status", role: "status" }, `${chosen.length} timed cells on ${gpu}, ${chosen.reduce((sum, cell) => sum + cell.samples.length, 0)} samples, ${runs.length === 1 ? "all of one run" : `of ${runs.length} runs, not timed side by side`}. Bold and blue: this project's.`),
      chart),
    site.el("div", { class: "panel" }, site.el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table of times" }, table)),
  );
  site.samples(chart, groups, { unit: "ms", log });
};

site.load("times").then((cells) => {
  showTimes(cells);
  addEventListener("hashchange", () => showTimes(cells));
}).catch((error) => site.fail(page, error));
