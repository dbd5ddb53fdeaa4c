// Boards that sort and filter. Rows: {column: text, or [number] or [number, low, high], link}.
"use strict";

const BOARDS = {
  policies: {
    name: "Policies",
    words:
      "Attention-level quality of every policy's masks, means over heads; in brackets 95% intervals over prompts (Student's t), where a dump has two prompts or more. Output error: sparse against dense output of the same head.",
    first: ["dump", (row) => `${row.policy} ${row.sparsity} ${row.heads}`],
    filters: ["dump", "sparsity", "policy"],
    start: { sparsity: "0.9", sort: "error" },
    columns: [
      { key: "policy", label: "policy", head: true },
      { key: "error", label: "output error (relative L2), lower is better", bar: true },
      { key: "recall", label: "attention recall, higher is better", bar: true, down: true },
      { key: "kept", label: "blocks kept, share" },
      { key: "choosing", label: "choosing, share of dense FLOPs" },
      { key: "heads", label: "heads" },
      { key: "sparsity", label: "sparsity" },
      { key: "dump", label: "dump" },
    ],
  },
  kernels: {
    name: "Kernels",
    words:
      "Attention calls on a GPU: the median of the samples; in brackets their 10% and 90% quantiles. Rates count kept blocks only. This project's kernels are bold. Calls of different commits or runs were not timed side by side; the page of kernels tells runs apart.",
    first: ["call", (row) => row.kernel],
    filters: ["call", "gpu", "sparsity", "kernel", "mask", "order", "timing"],
    start: { sparsity: "0.9", sort: "time" },
    columns: [
      { key: "kernel", label: "kernel", head: true },
      { key: "time", label: "time (ms), lower is better", bar: true },
      { key: "rate", label: "TFLOP/s over kept blocks, higher is better", down: true },
      { key: "speedup", label: "dense time / time", down: true },
      { key: "sparsity", label: "sparsity" },
      { key: "mask", label: "mask" },
      { key: "order", label: "token order" },
      { key: "timing", label: "timing" },
      { key: "samples", label: "samples" },
      { key: "call", label: "call" },
      { key: "gpu", label: "GPU" },
      { key: "commit", label: "commit" },
    ],
  },
  videos: {
    name: "Videos",
    words:
      "Sparse clips against dense clips of the same prompt and noise: means over clips; in brackets 95% bootstrap intervals.",
    first: ["model", (row) => row.choice],
    filters: ["model", "gpu", "sparsity", "policy"],
    start: { sparsity: "0.9", sort: "psnr", down: "1" },
    columns: [
      { key: "choice", label: "blocks chosen by", head: true },
      { key: "psnr", label: "PSNR (dB), higher is better", bar: true, down: true, digits: 4 },
      { key: "ssim", label: "SSIM, higher is better", bar: true, down: true },
      { key: "lpips", label: "LPIPS, lower is better", bar: true },
      { key: "kept", label: "blocks kept, all steps" },
      { key: "clips", label: "clips" },
      { key: "sparsity", label: "sparsity" },
      { key: "model", label: "model" },
    ],
  },
};
const NAMES = { dump: "dump", sparsity: "sparsity", policy: "policy", call: "call", gpu: "GPU", kernel: "kernel", mask: "mask", order: "token order", timing: "timing", model: "model" };
const MOST = 120; // rows at once

const valueOf = (row, key) => {
  const value = row[key];
  return Array.isArray(value) ? value[0] : (value ?? "");
};

const cellOf = (row, column, scale) => {
  const value = row[column.key];
  if (column.head) {
    return site.el("th", { scope: "row" }, site.el("a", { href: row.link, class: row.ours ? "ours" : null }, value || "–"));
  }
  if (column.key === "sparsity") return site.el("td", { "data-value": value }, site.sparsity(value));
  if (!Array.isArray(value)) return site.el("td", {}, value || "–");
  const [middle, low, high] = value;
  const digits = column.digits ?? 3;
  const cell = site.el("td", { class: "number" }, site.el("a", { href: row.link }, site.short(middle, digits)));
  if (low !== undefined) cell.append(site.el("span", { class: "interval" }, ` [${site.short(low, digits)}, ${site.short(high, digits)}]`));
  if (column.bar) {
    const at = (each) => `${(100 * (each - scale[0])) / (scale[1] - scale[0] || 1)}%`;
    const bar = site.el("span", { class: "bar", "aria-hidden": "true" });
    if (low !== undefined) {
      const width = (100 * (high - low)) / (scale[1] - scale[0] || 1);
      bar.append(site.el("i", { style: `left:${at(low)};width:${width}%` }));
    }
    bar.append(site.el("b", { style: `left:${at(middle)}` }));
    cell.append(bar);
  }
  return cell;
};

// The common scale of a column's bars: all that is shown, from 0 where that is near.
const scaleOf = (rows, key) => {
  const values = rows.map((row) => row[key]).filter(Array.isArray).flat();
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return [low > 0 && low < 0.6 * high ? 0 : low, high];
};

// The value of a column under which most kinds of rows stand, of policies those with the most heads: what is compared
// side by side unless the reader asks for something else.
const richest = (rows, key, kind) => {
  const kinds = {};
  for (const row of rows) (kinds[row[key]] ??= new Set()).add(kind(row));
  const heads = (value) => Math.max(0, ...rows.filter((row) => row[key] === value && row.heads).map((row) => row.heads[0]));
  return Object.keys(kinds).sort((a, b) => heads(b) - heads(a) || kinds[b].size - kinds[a].size || site.compare(a, b))[0];
};

const show = (place, boards) => {
  const state = site.state();
  const name = BOARDS[state.board] ? state.board : "policies";
  const board = BOARDS[name];
  const all = boards[name];
  const given = { ...board.start, ...(state.board ? state : {}) };
  const [first, kind] = board.first;
  given[first] ??= richest(all, first, kind);
  const change = (changes) => {
    site.keep({ ...given, board: name, ...changes });
    show(place, boards);
  };
  document.querySelector(".tabs").replaceChildren(
    ...Object.entries(BOARDS).map(([key, each]) =>
      site.el(
        "button",
        {
          class: "button", type: "button", role: "tab", "aria-selected": String(key === name), "aria-controls": "board",
          onclick: () => {
            site.keep({ board: key, ...BOARDS[key].start });
            show(place, boards);
          },
        },
        each.name,
      ),
    ),
  );
  // "all" stands in the address for a filter that was taken off.
  const chosen = (key) => (given[key] && given[key] !== "all" && all.some((row) => row[key] === given[key]) ? given[key] : "all");
  const words = (given.find ?? "").toLowerCase();
  const matches = all.filter(
    (row) =>
      board.filters.every((key) => chosen(key) === "all" || row[key] === chosen(key)) &&
      (!words || Object.values(row).some((value) => typeof value === "string" && value.toLowerCase().includes(words))),
  );
  const sort = board.columns.some((column) => column.key === given.sort) ? given.sort : board.start.sort;
  const down = given.down === "1";
  const present = (row) => (valueOf(row, sort) === "" ? 1 : 0);
  matches.sort((a, b) => present(a) - present(b) || (down ? -1 : 1) * site.compare(valueOf(a, sort), valueOf(b, sort)));
  const columns = board.columns.filter((column) => matches.some((row) => valueOf(row, column.key) !== ""));
  const scales = Object.fromEntries(columns.filter((column) => column.bar).map((column) => [column.key, scaleOf(matches, column.key)]));
  const shown = given.rows === "all" ? matches : matches.slice(0, MOST);
  const lists = board.filters
    .map((key) => [key, site.unique(all.map((row) => row[key]).filter((value) => value !== ""))])
    .filter(([, values]) => values.length > 1)
    .map(([key, values]) => site.choice(NAMES[key], [["all", `all (${values.length})`], ...values.map((value) => [value, key === "sparsity" ? site.sparsity(value) : value])], chosen(key), (value) => change({ [key]: value })));
  const find = site.el("input", { type: "search", value: given.find ?? "", placeholder: "any text", onchange: (event) => change({ find: event.target.value }) });
  const header = (column) => {
    const here = column.key === sort;
    const next = here ? !down : Boolean(column.down);
    const button = site.el("button", { type: "button", onclick: () => change({ sort: column.key, down: next ? "1" : "0" }) }, column.label);
    const number = matches.some((row) => Array.isArray(row[column.key]));
    return site.el("th", { scope: "col", class: number ? "number" : null, "aria-sort": here ? (down ? "descending" : "ascending") : null }, button);
  };
  const table = site.el(
    "table",
    { class: "sticky" },
    site.caption(board.words),
    site.el("thead", {}, site.el("tr", {}, ...columns.map(header))),
    site.el("tbody", {}, ...shown.map((row) => site.el("tr", {}, ...columns.map((column) => cellOf(row, column, scales[column.key]))))),
  );
  const focused = document.activeElement?.closest?.("th")?.cellIndex;
  place.replaceChildren(
    site.el("div", { class: "controls" }, ...lists, site.el("label", {}, "find", find)),
    site.el("p", { class: "status", role: "status" }, `${matches.length} of ${all.length} rows${shown.length < matches.length ? `, the first ${shown.length} shown` : ""}`),
    site.el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Board of ${name}` }, table),
    ...(shown.length < matches.length ? [site.el("button", { class: "button", type: "button", onclick: () => change({ rows: "all" }) }, "Show all rows")] : []),
  );
  if (focused !== undefined) table.tHead.rows[0].cells[focused]?.querySelector("button")?.focus();
};

const place = document.getElementById("board");
site.load("boards").then((boards) => {
  show(place, boards);
  addEventListener("hashchange", () => show(place, boards));
}).catch((error) => site.fail(place, error));
