// A chart of samples: a line a group, a mark a sample, the median and the 10% and 90% quantiles.
"use strict";

// groups: [{name, samples, link, ours, middle, low, high, tell(sample, number)}]; unit: of the axis.
site.samples = (place, groups, { unit, log = false, zero = true }) => {
  place.replaceChildren();
  if (!groups.length) {
    place.append(site.el("p", {}, "Nothing was measured with these choices."));
    return;
  }
  const draw = (width) => {
    const row = 34;
    const letters = Math.max(...groups.map((group) => group.name.length));
    const narrow = 7.6 * letters + 16 > 0.32 * width; // names stand above their rows
    const left = narrow ? 8 : 7.6 * letters + 16;
    const lift = narrow ? 16 : 0;
    const [top, bottom, right] = [8, 44, 56];
    const height = top + bottom + groups.length * (row + lift);
    const values = groups.flatMap((group) => group.samples);
    const [least, most] = d3.extent(values);
    const scale = (log ? d3.scaleLog() : d3.scaleLinear())
      .domain(log ? [least * 0.95, most * 1.05] : [zero ? 0 : least - 0.03 * (most - least), most + 0.03 * (most - (zero ? 0 : least))])
      .range([left, width - right]);
    const svg = d3.create("svg").attr("class", "chart").attr("viewBox", `0 0 ${width} ${height}`).attr("role", "img")
      .attr("aria-label", `${groups.length} rows of samples in ${unit}; the table below has the numbers`);
    const ticks = Math.max(3, Math.floor((width - left) / 90));
    const grid = svg.append("g").attr("class", "grid");
    grid.selectAll("line").data(scale.ticks(ticks)).join("line").attr("x1", scale).attr("x2", scale).attr("y1", top).attr("y2", height - bottom);
    const axis = log ? d3.axisBottom(scale).ticks(ticks, "~g") : d3.axisBottom(scale).ticks(ticks);
    svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - bottom})`).call(axis);
    svg.append("text").attr("class", "faint").attr("x", width - right).attr("y", height - 6).attr("text-anchor", "end").text(unit);
    groups.forEach((group, number) => {
      const middle = top + number * (row + lift) + lift + row / 2;
      const colour = group.ours ? "var(--ours)" : "var(--theirs)";
      const line = svg.append("g");
      line.append("a").attr("href", group.link).append("text").attr("x", narrow ? left : left - 10).attr("y", narrow ? middle - 13 : middle + 4)
        .attr("text-anchor", narrow ? "start" : "end").attr("font-weight", group.ours ? 700 : 400).text(group.name);
      line.append("rect").attr("x", scale(group.low)).attr("width", Math.max(1, scale(group.high) - scale(group.low))).attr("y", middle - 8)
        .attr("height", 16).attr("fill", colour).attr("opacity", 0.18);
      line.append("line").attr("x1", scale(group.middle)).attr("x2", scale(group.middle)).attr("y1", middle - 10).attr("y2", middle + 10)
        .attr("stroke", colour).attr("stroke-width", 2.5);
      line.selectAll("circle").data(group.samples).join("circle").attr("cx", scale).attr("cy", (_, place) => middle + (((place * 7) % 11) - 5) * 1.3)
        .attr("r", 3.4).attr("fill", colour).attr("fill-opacity", 0.75).attr("stroke", "var(--panel)").attr("stroke-width", 0.7)
        .on("mousemove", function () {
          const event = arguments[0] instanceof Event ? arguments[0] : d3.event; // since version 6 the first argument
          const place = line.selectAll("circle").nodes().indexOf(this);
          site.tip(event, group.tell(group.samples[place], place));
        })
        .on("mouseleave", (event) => site.tip(event ?? d3.event, null));
      line.append("text").attr("class", "faint").attr("x", scale(d3.max(group.samples)) + 8).attr("y", middle + 4).text(site.short(group.middle));
    });
    place.replaceChildren(svg.node());
  };
  site.onWidth(place, draw);
};
