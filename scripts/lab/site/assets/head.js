// A head's maps and masks as numbers, and how they are drawn.
"use strict";

const DECADES = 4; // of the colour scale

const floats = (base64) => new Float32Array(site.bytes(base64).buffer);
const bitsOf = (base64, count) => {
  const bytes = site.bytes(base64);
  return Uint8Array.from({ length: count }, (_, place) => (bytes[place >> 3] >> (7 - (place & 7))) & 1);
};

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Head {
  constructor(data) {
    Object.assign(this, data);
    this.draft = floats(data.draft);
    this.mass = floats(data.mass);
    this.side = Math.sqrt(this.mass.length);
    const [frames, rows, columns] = this.regions;
    this.perFrame = rows * columns;
    this.frames = frames;
    const [, height, width] = this.grid;
    // Regions at the lower and right edges of a ragged grid have fewer tokens.
    this.tokens = Array.from({ length: this.side }, (_, region) => {
      const { row, column } = this.where(region);
      return Math.min(this.region[0], height - row * this.region[0]) * Math.min(this.region[1], width - column * this.region[1]);
    });
    this.top = Math.max(...this.mass, ...this.draft);
    this.low = this.top / 10 ** DECADES;
  }
  where(region) {
    const columns = this.regions[2];
    const inFrame = region % this.perFrame;
    return { frame: Math.floor(region / this.perFrame), row: Math.floor(inFrame / columns), column: inFrame % columns };
  }
  place(region) {
    const { frame, row, column } = this.where(region);
    const [, height, width] = this.grid;
    const [top, left] = [row * this.region[0], column * this.region[1]];
    return `frame ${frame}, rows ${top}–${Math.min(top + this.region[0], height) - 1}, columns ${left}–${Math.min(left + this.region[1], width) - 1}`;
  }
  // Share of the true video mass that a mask keeps: of one query region, and of all with their tokens as weights.
  kept(bits) {
    const rows = Array.from({ length: this.side }, (_, i) => {
      let [kept, all, blocks, worst] = [0, 0, 0, -1];
      for (let j = 0; j < this.side; j++) {
        const value = this.mass[i * this.side + j];
        all += value;
        if (bits[i * this.side + j]) [kept, blocks] = [kept + value, blocks + 1];
        else if (worst < 0 || value > this.mass[i * this.side + worst]) worst = j;
      }
      return { kept, all, blocks, worst };
    });
    const weight = d3.sum(this.tokens);
    const dropped = d3.sum(rows, (row, i) => (row.all - row.kept) * this.tokens[i]) / weight;
    return { rows, dropped, blocks: d3.sum(rows, (row) => row.blocks) };
  }
}

const ramp = (head, value) => {
  if (!(value > head.low)) return d3.color(d3.interpolateViridis(0)).rgb();
  return d3.color(d3.interpolateViridis(Math.log(value / head.low) / Math.log(head.top / head.low))).rgb();
};

// A map as a picture of its own, for a width on the page. Twice the pixels that are shown: the browser's scaling then keeps
// thin lines and square blocks.
const groundOf = (head, colour, shown) => {
  const cell = Math.ceil((2 * shown) / head.side);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = cell * head.side;
  const context = canvas.getContext("2d");
  for (let i = 0; i < head.side; i++) {
    for (let j = 0; j < head.side; j++) {
      context.fillStyle = colour(i * head.side + j);
      context.fillRect(j * cell, i * cell, cell, cell);
    }
  }
  context.fillStyle = "rgb(255 255 255 / 55%)";
  for (let frame = 1; frame < head.frames; frame++) {
    const edge = frame * head.perFrame * cell;
    context.fillRect(edge - 1, 0, 2, canvas.height);
    context.fillRect(0, edge - 1, canvas.width, 2);
  }
  return canvas;
};

// The map with the pointed row and column outlined.
const drawMap = (canvas, head, ground, at) => {
  if (canvas.width !== ground.width) canvas.width = canvas.height = ground.width;
  const cell = ground.width / head.side;
  const context = canvas.getContext("2d");
  context.drawImage(ground, 0, 0);
  context.strokeStyle = css("--theirs");
  context.lineWidth = Math.max(3, cell / 6);
  context.strokeRect(at[1] * cell, 0, cell, canvas.height);
  context.strokeRect(0, at[0] * cell, canvas.width, cell);
};

// The video's frames with the mass that a query region gives to each of their regions; dropped ones are crossed out.
const drawFrames = (canvas, head, bits, query) => {
  const [frames, rows, columns] = head.regions;
  const gap = 14;
  const room = Math.min(1100, canvas.parentElement.clientWidth || 600);
  const perLine = Math.min(frames, room < 520 ? 3 : 8);
  const lines = Math.ceil(frames / perLine);
  const cellW = Math.max(10, Math.min(44, Math.floor((room / perLine - gap) / columns)));
  const cellH = Math.max(8, Math.round((cellW * head.region[0]) / head.region[1] / 0.75));
  const [width, height] = [perLine * (columns * cellW + gap), lines * (rows * cellH + gap + 16)];
  const sharp = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * sharp, height * sharp];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.scale(sharp, sharp);
  const cross = Math.min(cellW, cellH) / 4;
  for (let region = 0; region < head.side; region++) {
    const { frame, row, column } = head.where(region);
    const x = (frame % perLine) * (columns * cellW + gap) + column * cellW;
    const y = Math.floor(frame / perLine) * (rows * cellH + gap + 16) + 16 + row * cellH;
    const place = query * head.side + region;
    context.fillStyle = ramp(head, head.mass[place]).toString();
    context.fillRect(x, y, cellW - 1, cellH - 1);
    if (!bits[place]) {
      context.strokeStyle = "rgb(255 255 255 / 65%)";
      context.lineWidth = 1.5;
      context.beginPath();
      const [middleX, middleY] = [x + (cellW - 1) / 2, y + (cellH - 1) / 2];
      context.moveTo(middleX - cross, middleY - cross);
      context.lineTo(middleX + cross, middleY + cross);
      context.moveTo(middleX + cross, middleY - cross);
      context.lineTo(middleX - cross, middleY + cross);
      context.stroke();
    }
    if (region === query) {
      context.strokeStyle = css("--theirs");
      context.lineWidth = 3;
      context.strokeRect(x + 1, y + 1, cellW - 3, cellH - 3);
    }
    if (row === 0 && column === 0) {
      context.fillStyle = css("--faint");
      context.font = "12px system-ui, sans-serif";
      context.fillText(`frame ${frame}`, x, y - 3);
    }
  }
};
