// The explorer of heads: four maps of one head under one pointer, and where a query region looks in the video's frames.
"use strict";

const explorer = document.getElementById("explorer");

const showHeads = (heads) => {
  const state = site.state();
  const pick = (name, values, wanted) => (values.includes(state[name]) ? state[name] : values.includes(wanted) ? wanted : values[0]);
  const captures = site.unique(heads.map((head) => `${head.dump}: ${head.capture}`));
  const capture = pick("capture", captures, captures[0]);
  const ofCapture = heads.filter((head) => `${head.dump}: ${head.capture}` === capture);
  const number = pick("head", ofCapture.map((head) => String(head.head)));
  const head = ofCapture.find((each) => String(each.head) === number);
  const policies = Object.keys(head.masks);
  const policy = pick("policy", policies);
  const sparsities = Object.keys(head.masks[policy]).sort(site.compare);
  const sparsity = pick("sparsity", sparsities, "0.9");
  const mask = head.masks[policy][sparsity];
  const bits = bitsOf(mask.bits, head.side ** 2);
  const kept = head.kept(bits);
  const change = (name) => (value) => {
    site.keep({ capture, head: number, policy, sparsity, [name]: value });
    showHeads(heads);
  };
  let at = showHeads.at && showHeads.at[0] < head.side && showHeads.at[1] < head.side ? showHeads.at : [0, kept.rows[0].worst];

  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const [on, off] = [css("--accent"), dark ? "#0d1013" : "#ffffff"];
  const maps = [
    ["draft map", "A_draft: what pooled queries and keys expect (eq. 3)", (place) => ramp(head, head.draft[place]).toString()],
    ["true block mass", "mean over the query region's tokens", (place) => ramp(head, head.mass[place]).toString()],
    ["mask", "blocks that are computed", (place) => (bits[place] ? on : off)],
    ["what was dropped", "true mass of blocks that are left out", (place) => (bits[place] ? (dark ? "#3a414a" : "#d9dde2") : ramp(head, head.mass[place]).toString())],
  ];
  const canvases = maps.map(([name]) => site.el("canvas", { tabindex: "0", role: "img", "aria-label": `${name} of ${head.side} by ${head.side} blocks; arrow keys move the block that is read out` }));
  const frames = site.el("canvas", { role: "img", "aria-label": "The frames of the video with the attention mass of the chosen query region" });
  const values = site.el("dl", { class: "readout", "aria-live": "polite" });
  const record = (name) => mask.metrics[name];
  const summary = [
    ["blocks kept", `${kept.blocks} of ${head.side ** 2} (${site.percent(kept.blocks / head.side ** 2)})`, mask.link],
    ["attention recall", site.percent(record("attention_recall")), mask.link],
    ["recall, worst row", site.percent(record("attention_recall_min")), mask.link],
    ["output error (relative L2)", site.short(record("output_rel_l2")), mask.link],
    ["output PSNR", record("output_psnr") === undefined ? null : `${site.short(record("output_psnr"))} dB`, mask.link],
    ["mass dropped (from the maps)", site.percent(kept.dropped), head.link],
    ["block rows without a block", site.short(record("empty_rows")), mask.link],
    ["blocks that a row's mass spreads over", site.short(head.blocks), head.link],
  ].filter(([, text]) => text !== null && text !== "–");

  const grounds = []; // the maps without the pointer's lines, drawn once a width
  const paint = () => {
    canvases.forEach((canvas, place) => {
      const shown = canvas.clientWidth || 300;
      if (grounds[place]?.shown !== shown) grounds[place] = Object.assign(groundOf(head, maps[place][2], shown), { shown });
      drawMap(canvas, head, grounds[place], at);
    });
    drawFrames(frames, head, bits, at[0]);
    const [i, j] = at;
    const place = i * head.side + j;
    const row = kept.rows[i];
    const pairs = [
      ["query region", `${i}: ${head.place(i)}`],
      ["key region", `${j}: ${head.place(j)}`],
      ["draft map", site.short(head.draft[place], 4)],
      ["true mass", `${site.short(head.mass[place], 4)} (${site.percent(head.mass[place] / row.all, 2)} of the row's)`],
      ["this block", bits[place] ? "kept" : "dropped"],
      ["this row keeps", `${row.blocks} blocks, ${site.percent(row.kept / row.all)} of its video mass`],
      ["its largest dropped block", row.worst < 0 ? "none is dropped" : `key region ${row.worst}, ${site.percent(head.mass[i * head.side + row.worst], 2)}`],
    ];
    values.replaceChildren(...pairs.map(([name, text]) => site.el("div", {}, site.el("dt", {}, name), site.el("dd", {}, text))));
  };
  const move = (i, j) => {
    at = showHeads.at = [Math.max(0, Math.min(head.side - 1, i)), Math.max(0, Math.min(head.side - 1, j))];
    paint();
  };
  for (const canvas of canvases) {
    const pointed = (event) => {
      const box = canvas.getBoundingClientRect();
      const inside = (where, start, size) => Math.floor(((where - start) / size) * head.side);
      const next = [inside(event.clientY, box.top, box.height), inside(event.clientX, box.left, box.width)];
      if (next[0] !== at[0] || next[1] !== at[1]) move(...next);
    };
    canvas.addEventListener("pointermove", pointed);
    canvas.addEventListener("pointerdown", pointed);
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      move(at[0] + step[0], at[1] + step[1]);
    });
  }

  const stops = d3.range(0, 1.01, 0.1).map((share) => d3.interpolateViridis(share)).join(", ");
  const legend = site.el("div", { class: "legend" },
    site.el("span", {}, `${site.short(head.low, 2)} or less`),
    site.el("span", { class: "ramp", style: `background:linear-gradient(90deg, ${stops})` }),
    site.el("span", {}, `${site.short(head.top, 2)}: share of a query region's attention mass (logarithmic, both maps)`),
    site.el("span", {}, site.el("span", { class: "key", style: `background:${on}` }), "kept"),
    site.el("span", {}, site.el("span", { class: "key", style: `background:${off}` }), "dropped"),
    site.el("span", {}, site.el("span", { class: "key", style: "background:var(--theirs)" }), "the block that is read out"));

  explorer.replaceChildren(
    site.el("div", { class: "panel" },
      site.el("div", { class: "controls" },
        site.choice("dump: capture", captures, capture, change("capture")),
        site.choice("head", ofCapture.map((each) => [String(each.head), `head ${each.head}`]), number, change("head")),
        site.choice("policy", policies, policy, change("policy")),
        site.choice("sparsity", sparsities.map((text) => [text, site.sparsity(text)]), sparsity, change("sparsity"))),
      site.el("dl", { class: "readout" }, ...summary.map(([name, text, link]) => site.el("div", {}, site.el("dt", {}, name), site.el("dd", {}, site.el("a", { href: link }, text)))))),
    site.el("div", { class: "panel" },
      site.el("div", { class: "maps" }, ...maps.map(([name, words], place) => site.el("div", {}, site.el("h3", {}, name), canvases[place], site.el("p", {}, words)))),
      site.el("p", { class: "status" }, "Down: query regions. Across: key regions. White lines separate frames."),
      legend, site.el("h3", {}, "Under the pointer"), values),
    site.el("div", { class: "panel frames" }, site.el("h3", {}, "Where this query region looks"),
      site.el("p", {}, "True mass of its row on the video's frames, in the colours above. Crossed out: dropped. Outlined: the region itself."), site.el("div", {}, frames)),
    site.el("p", { class: "lead" }, `Layer ${head.layer}, step ${head.step}; ${head.grid.join(" × ")} tokens in regions of ${head.region.join(" × ")}; ${site.percent(head.text, 3)} of the mass is the text's, which is always kept. Policies whose blocks are cut otherwise than the maps' regions are on the leaderboard, not here.`),
  );
  paint();
};

if (explorer.childElementCount) {
  site.load("heads").then((data) => {
    const heads = data.map((each) => new Head(each));
    showHeads(heads);
    addEventListener("hashchange", () => showHeads(heads));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showHeads(heads));
  }).catch((error) => site.fail(explorer, error));
}
