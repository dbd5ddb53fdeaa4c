// Moving clips frame by frame, and the metric of every clip.
"use strict";

const strip = document.getElementById("strip");
if (strip) {
  const slider = document.getElementById("frame");
  const play = document.getElementById("play");
  const frames = Number(strip.dataset.frames);
  let timer = 0;
  const show = () => (strip.style.backgroundPosition = `0 ${(100 * slider.value) / Math.max(1, frames - 1)}%`);
  slider.addEventListener("input", show);
  play.addEventListener("click", () => {
    const on = play.getAttribute("aria-pressed") !== "true";
    play.setAttribute("aria-pressed", String(on));
    play.textContent = on ? "Pause" : "Play";
    clearInterval(timer);
    if (on) timer = setInterval(() => ((slider.value = (Number(slider.value) + 1) % frames), show()), 120);
  });
}

const clipsPage = document.getElementById("of_clips");
const UNITS = { psnr: "PSNR to the dense clip (dB), higher is better", ssim: "SSIM, higher is better", lpips: "LPIPS, lower is better" };
const MOST_CHOICES = 24;

const showClips = (cells) => {
  const state = site.state();
  const pick = (name, values, wanted) => (values.includes(state[name]) ? state[name] : values.includes(wanted) ? wanted : values[0]);
  const models = site.unique(cells.map((cell) => cell.model));
  const model = pick("model", models, cells[0]?.model);
  const ofModel = cells.filter((cell) => cell.model === model);
  const sparsities = site.unique(ofModel.map((cell) => cell.sparsity));
  const sparsity = pick("sparsity", sparsities, "0.9");
  const found = ofModel.filter((cell) => cell.sparsity === sparsity);
  const metrics = Object.keys(UNITS).filter((name) => found.some((cell) => cell.clips[name]));
  const metric = pick("metric", metrics, "psnr");
  const sign = metric === "lpips" ? 1 : -1;
  const ranked = found.filter((cell) => cell.clips[metric]).sort((a, b) => sign * (d3.mean(a.clips[metric]) - d3.mean(b.clips[metric])));
  const change = (name) => (value) => {
    site.keep({ model, sparsity, metric, [name]: value });
    showClips(cells);
  };
  const chart = site.el("div");
  clipsPage.replaceChildren(
    site.el("div", { class: "controls" },
      site.choice("model", models, model, change("model")),
      site.choice("sparsity", sparsities.map((text) => [text, site.sparsity(text)]), sparsity, change("sparsity")),
      site.choice("metric", metrics.map((name) => [name, name.toUpperCase()]), metric, change("metric"))),
    site.el("p", { class: "status", role: "status" }, `${Math.min(ranked.length, MOST_CHOICES)} of ${ranked.length} choices of blocks, best first; a mark a clip, the line is the mean, the band the 95% bootstrap interval of the mean. Blue: DraftAttention.`),
    chart,
  );
  site.samples(chart, ranked.slice(0, MOST_CHOICES).map((cell) => ({
    name: cell.choice,
    samples: cell.clips[metric],
    link: cell.link,
    ours: cell.policy === "draft",
    middle: cell.intervals[metric][0],
    low: cell.intervals[metric][1] ?? cell.intervals[metric][0],
    high: cell.intervals[metric][2] ?? cell.intervals[metric][0],
    tell: (sample, number) => `${cell.choice}\nclip ${number + 1} of ${cell.clips[metric].length}: ${site.short(sample, 4)}\nmean ${site.short(cell.intervals[metric][0], 4)}`,
  })), { unit: UNITS[metric], zero: false });
};

site.load("clips").then((cells) => {
  if (cells.length) showClips(cells);
  else clipsPage.replaceChildren(site.el("p", {}, "No record of videos is here."));
  addEventListener("hashchange", () => cells.length && showClips(cells));
}).catch((error) => site.fail(clipsPage, error));
