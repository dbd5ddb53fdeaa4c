// Finds records by what the address names, and shows one with all that it says.
"use strict";

const recordsPage = document.getElementById("records");
const MOST_SHOWN = 100;
const TITLES = { input: "Measured on", config: "How", metrics: "Numbers", timing: "Timing", arrays: "Lists", machine: "Machine", build: "Build", notes: "Notes", "": "Record" };
const ORDER = ["", "input", "config", "metrics", "timing", "arrays", "machine", "build", "notes"];

// Columns are numbers, texts by number, or values.
const at = (column, row) => {
  if (!column) return null;
  if (column.n) return column.n[row];
  if (column.t) return column.i[row] === null ? null : column.t[column.i[row]];
  return column.v[row];
};

const textOf = (value) => {
  if (Array.isArray(value)) return value.map((each) => (typeof each === "number" ? site.short(each, 5) : JSON.stringify(each))).join(", ");
  return typeof value === "number" ? value.toLocaleString("en-US", { maximumSignificantDigits: 9 }) : String(value);
};

const lineOf = (file, line) => `${file.endsWith(".gz") ? "zcat" : "cat"} results/${file} | sed -n ${line}p | python3 -m json.tool`;

const detail = (shard, row, fields) => {
  const index = (name) => at(shard.index[name], row);
  const groups = Object.fromEntries(ORDER.map((name) => [name, []]));
  for (const [field, column] of Object.entries(shard.fields)) {
    const value = at(column, row);
    if (value === null) continue;
    const dot = field.indexOf(".");
    const group = dot < 0 ? "" : field.slice(0, dot);
    (groups[group] ?? groups[""]).push([field, value]);
  }
  const line = ([field, value]) => {
    const known = fields[field] ?? {};
    const name = field.slice(field.indexOf(".") + 1);
    return [
      site.el("dt", { title: known.meaning ?? null }, name),
      site.el("dd", {}, textOf(value), known.unit ? ` ${known.unit}` : "", known.meaning ? site.el("small", {}, ` – ${known.meaning}`) : null, known.better ? site.el("small", {}, `, ${known.better} is better`) : null),
    ];
  };
  const place = `${index("file")}:${index("line")}`;
  return site.el("section", { class: "panel", id: "record", "aria-labelledby": "record_title" },
    site.el("h2", { id: "record_title" }, `${index("experiment")}: ${place}`),
    site.el("p", {}, `Status ${index("status")}; commit ${index("commit") ?? "not named"}; ${index("gpu") ?? at(shard.fields["machine.cpu"], row) ?? "machine not named"}; dump ${index("dump") ?? "none"}${index("sha") ? ` (sha256 ${index("sha")}…)` : ""}. The line with all its digits:`),
    site.el("pre", { tabindex: "0" }, lineOf(index("file"), index("line"))),
    ...ORDER.filter((name) => groups[name].length).flatMap((name) => [site.el("h3", {}, TITLES[name]), site.el("dl", { class: "fields" }, ...groups[name].flatMap(line))]));
};

// Columns in which the found records differ, and a few numbers of theirs.
const differing = (found) => {
  const names = ["dump", "capture", "head", "variant", "policy", "pool", "rule", "region", "sparsity", "remainder", "kernel", "order", "part", "call", "choice", "gpu", "commit"];
  return names.filter((name) => new Set(found.slice(0, 2000).map(({ shard, row }) => at(shard.index[name], row))).size > 1);
};
const NUMBERS = ["timing.median_ms", "timing.tflops_kept", "metrics.attention_recall", "metrics.output_rel_l2", "metrics.psnr", "metrics.kernel_rel_l2", "metrics.tightness_3_3", "metrics.tightness_3_5", "metrics.pflops"];

const listOf = (found, given, fields) => {
  const shown = found.slice(0, MOST_SHOWN);
  const columns = differing(found);
  const numbers = NUMBERS.filter((name) => shown.some(({ shard, row }) => at(shard.fields[name], row) !== null)).slice(0, 4);
  const header = (text, number) => site.el("th", { scope: "col", class: number ? "number" : null }, text);
  const label = (name) => (fields[name]?.meaning && name.startsWith("metrics.") ? fields[name].meaning : name.split(".")[1]) + (fields[name]?.unit ? ` (${fields[name].unit})` : "");
  const table = site.el("table", { class: "sticky" },
    site.caption(`${shown.length} of ${found.length.toLocaleString("en-US")} records; columns in which they differ, and some of their numbers.`),
    site.el("thead", {}, site.el("tr", {}, header("record"), header("experiment"), ...numbers.map((name) => header(label(name), true)), ...columns.map((name) => header(name)))),
    site.el("tbody", {}, ...shown.map(({ name, shard, row }) => {
      const id = `${at(shard.index.file, row)}:${at(shard.index.line, row)}`;
      return site.el("tr", {},
        site.el("th", { scope: "row" }, site.el("a", { href: `#${new URLSearchParams({ in: name, id })}` }, id)),
        site.el("td", {}, at(shard.index.experiment, row)),
        ...numbers.map((field) => {
          const value = at(shard.fields[field], row);
          return site.el("td", { class: "number", "data-value": value ?? "" }, site.short(value, 4));
        }),
        ...columns.map((column) => {
          const text = at(shard.index[column], row) ?? "–"; // of many captures one name is as long as a page: the record has it
          return text.length > 60 ? site.el("td", { title: text }, `${text.slice(0, 59)}…`) : site.el("td", {}, text);
        }));
    })));
  site.sortable(table);
  return site.el("section", { class: "panel", "aria-label": "Records found" }, site.el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Records" }, table));
};

const showRecords = async (catalogue) => {
  const given = site.state();
  const names = (given.in ?? "").split(",").filter((name) => catalogue.shards[name]);
  const choose = site.choice("experiment", [["", "choose…"], ...Object.entries(catalogue.shards).map(([name, count]) => [name, `${name} (${count.toLocaleString("en-US")})`])], names.length === 1 ? names[0] : "", (value) => (location.hash = value ? `in=${value}` : ""));
  const controls = [choose];
  if (!names.length) {
    recordsPage.replaceChildren(site.el("div", { class: "panel controls" }, ...controls), site.el("p", {}, "Choose an experiment, or follow a number of another page."));
    return;
  }
  const shards = await Promise.all(names.map((name) => site.load(`records/${name}`)));
  const filters = Object.entries(given).filter(([name]) => name !== "in" && name !== "id");
  const found = [];
  let one = null;
  shards.forEach((shard, number) => {
    for (let row = 0; row < shard.count; row++) {
      if (given.id) {
        if (`${at(shard.index.file, row)}:${at(shard.index.line, row)}` === given.id) one = { name: names[number], shard, row };
      } else if (filters.every(([name, text]) => at(shard.index[name], row) === text)) {
        found.push({ name: names[number], shard, row });
      }
    }
  });
  if (!given.id && names.length === 1) {
    const [shard] = shards;
    for (const name of ["dump", "variant", "policy", "kernel", "sparsity", "gpu"]) {
      const column = shard.index[name];
      if (column?.t?.length > 1) {
        controls.push(site.choice(name, [["", "all"], ...site.unique(column.t)], given[name] ?? "", (value) => {
          const state = { ...given, [name]: value };
          if (!value) delete state[name];
          location.hash = new URLSearchParams(state).toString();
        }));
      }
    }
  }
  const chosen = site.el("ul", { class: "chosen", "aria-label": "Chosen by" }, ...filters.map(([name, text]) => site.el("li", {}, `${name} = ${text}`)));
  if (given.id && !one) {
    recordsPage.replaceChildren(site.el("p", { role: "alert" }, `No record ${given.id} is here.`));
    return;
  }
  recordsPage.replaceChildren(
    site.el("div", { class: "panel" }, site.el("div", { class: "controls" }, ...controls), ...(filters.length ? [chosen] : []),
      ...(given.id ? [site.el("a", { href: `#in=${encodeURIComponent(given.in)}` }, `All records of ${given.in}`)] : [])),
    given.id ? detail(one.shard, one.row, catalogue.fields) : listOf(found, given, catalogue.fields),
  );
};

site.load("catalogue").then(async (catalogue) => {
  const show = () => showRecords(catalogue).catch((error) => site.fail(recordsPage, error));
  await show();
  addEventListener("hashchange", show);
}).catch((error) => site.fail(recordsPage, error));
