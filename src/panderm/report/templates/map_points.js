// The points: their places, colours and shapes, and how they are drawn.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const n = data.image.length;
const at = (id) => document.getElementById(id);
const stage = at("stage"), points = at("points"), over = at("over"), tip = at("tip");
const BINS = 64; // colours of a scale of numbers
const SHAPES = ["circle", "square", "triangle", "diamond"];
// Dark to light and even in lightness, told apart by every eye, and never grey as empty cells are: viridis.
const SCALE = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
const many = (k, noun) => `${k.toLocaleString("en")} ${noun}${k === 1 ? "" : "s"}`;
const make = (tag, text, kind) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const short = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

// Points in the unit square, the same scale both ways; v runs downwards.
const extent = (values) => values.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
const [x0, x1] = extent(data.x), [y0, y1] = extent(data.y);
const span = Math.max(x1 - x0, y1 - y0) || 1;
const U = Float32Array.from(data.x, (x) => (x - x0) / span), V = Float32Array.from(data.y, (y) => (y1 - y) / span);
const wide = Math.max((x1 - x0) / span, 0.02), high = Math.max((y1 - y0) / span, 0.02);

// Drawn in an order of no meaning: in the table's, the last class would hide the others.
const order = Uint32Array.from({ length: n }, (_, i) => i);
let state = 42;
const draw = () => { // mulberry32
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
for (let i = n - 1; i > 0; i--) {
  const j = Math.floor(draw() * (i + 1));
  [order[i], order[j]] = [order[j], order[i]];
}

// Rows by cell, for whatever lies under the pointer.
const side = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(n / 2))));
const cellOf = (u, v) => Math.min(side - 1, Math.max(0, Math.floor(v * side))) * side + Math.min(side - 1, Math.max(0, Math.floor(u * side)));
const first = new Uint32Array(side * side + 1), inCells = new Uint32Array(n);
for (let i = 0; i < n; i++) first[cellOf(U[i], V[i]) + 1]++;
for (let c = 0; c < side * side; c++) first[c + 1] += first[c];
const filled = first.slice();
for (let i = 0; i < n; i++) inCells[filled[cellOf(U[i], V[i])]++] = i;

// What the reader has chosen.
let column = data.columns[0], look = new Uint8Array(n), styles = [], shown = new Uint8Array(0);
let selected = new Uint8Array(n), chosen = [], hovered = -1, ringed = -1, pages = 1;
let view = { s: 1, x: 0, y: 0 }, whole = 1, W = 1, H = 1, dpr = 1, mode = "lasso", queued = false;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgbOf = (colour) => [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
const value = (one, i) => {
  if (one.kind === "numbers") return one.values[i] === null ? "" : String(one.values[i]);
  return one.codes[i] < 0 ? "" : one.names[one.codes[i]];
};
const scaled = (t) => { // without the end that would sink into the ground
  const dark = rgbOf(css("--card")).reduce((a, b) => a + b) < 384;
  const p = Math.min(0.9999, Math.max(0, dark ? 0.15 + 0.85 * t : 0.95 * t)) * (SCALE.length - 1), k = Math.floor(p);
  return SCALE[k].map((c, j) => Math.round(c + (SCALE[k + 1][j] - c) * (p - k)));
};

function paint() { // gives each point its style: a colour, a shape and a name in the legend
  const grey = rgbOf(css("--muted")), light = rgbOf(css("--line"));
  styles = [];
  if (!column) {
    look = new Uint8Array(n);
    styles = [{ rgb: rgbOf(css("--series-1") || data.series[0]), shape: "circle", name: "all", count: n }];
  } else if (column.kind === "numbers") {
    const reach = column.high - column.low || 1;
    look = Uint8Array.from(column.values, (x) => x === null ? BINS : Math.min(BINS - 1, Math.max(0, Math.floor((x - column.low) / reach * BINS))));
    for (let b = 0; b < BINS; b++) styles.push({ rgb: scaled(b / (BINS - 1)), shape: "circle" });
    styles.push({ rgb: light, shape: "circle", name: "(empty)" });
  } else {
    const others = column.own, empty = column.own + 1;
    look = Uint8Array.from(column.codes, (c) => c < 0 ? empty : Math.min(c, others));
    for (let k = 0; k < column.own; k++) {
      const j = k % data.series.length;
      styles.push({ rgb: rgbOf(css(`--series-${j + 1}`) || data.series[j]), shape: SHAPES[Math.floor(k / data.series.length) % 4], name: column.names[k] });
    }
    styles.push({ rgb: grey, shape: "circle", name: `others (${many(column.names.length - column.own, "value")})` });
    styles.push({ rgb: light, shape: "circle", name: "(empty)" });
  }
  for (const one of styles) one.count = 0;
  for (let i = 0; i < n; i++) styles[look[i]].count++;
  if (shown.length !== styles.length) shown = new Uint8Array(styles.length).fill(1);
}

function trace(pen, shape, x, y, r) {
  pen.beginPath();
  if (shape === "square") pen.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else if (shape === "triangle") { pen.moveTo(x, y - r * 1.2); pen.lineTo(x + r * 1.15, y + r * 0.9); pen.lineTo(x - r * 1.15, y + r * 0.9); pen.closePath(); }
  else if (shape === "diamond") { pen.moveTo(x, y - r * 1.3); pen.lineTo(x + r * 1.3, y); pen.lineTo(x, y + r * 1.3); pen.lineTo(x - r * 1.3, y); pen.closePath(); }
  else pen.arc(x, y, r, 0, 2 * Math.PI);
}

const radius = () => Math.max(0.9, (Math.min(6, 14 * Math.pow(n, -0.2)) + Number(at("size").value) * 0.6) * Math.min(2.2, Math.pow(view.s / whole, 0.3)));

function stampsOf(r, reach, across) { // of each style its pixels: where they lie in a buffer, their colour, how much they cover
  const edge = 2 * reach + 1, canvas = make("canvas");
  canvas.width = canvas.height = edge;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  return styles.map(({ rgb, shape }) => {
    pen.clearRect(0, 0, edge, edge);
    trace(pen, shape, edge / 2, edge / 2, r);
    pen.fillStyle = `rgb(${rgb})`;
    pen.fill();
    if (r > 2.2) { pen.strokeStyle = css("--card"); pen.lineWidth = Math.min(1, r * 0.2); pen.stroke(); } // a thin edge keeps neighbours apart
    const pixels = pen.getImageData(0, 0, edge, edge).data, whole32 = new Uint32Array(pixels.buffer), kept = [];
    for (let k = 0; k < edge * edge; k++) if (pixels[4 * k + 3] > 8) kept.push(k);
    return {
      offset: Int32Array.from(kept, (k) => (Math.floor(k / edge) - reach) * across + (k % edge) - reach),
      colour: Uint32Array.from(kept, (k) => whole32[k]),
      red: Uint8Array.from(kept, (k) => pixels[4 * k]), green: Uint8Array.from(kept, (k) => pixels[4 * k + 1]), blue: Uint8Array.from(kept, (k) => pixels[4 * k + 2]),
      cover: Uint8Array.from(kept, (k) => pixels[4 * k + 3]),
    };
  });
}

// Pixels are written by hand, several times as fast as the canvas's own circles at a hundred thousand points. The
// buffer has a margin, so that no pixel of a point at the border falls into the next line.
let buffer = null;
function render() {
  queued = false;
  const r = radius() * dpr, reach = Math.ceil(r * 1.35 + 1), w = points.width + 2 * reach, h = points.height + 2 * reach;
  if (!buffer || buffer.width !== w || buffer.height !== h) buffer = new ImageData(w, h);
  const to = buffer.data, to32 = new Uint32Array(to.buffer), stamps = stampsOf(r, reach, w);
  to32.fill(new Uint32Array(new Uint8Array([...rgbOf(css("--card")), 255]).buffer)[0]);
  const s = view.s * dpr, dx = view.x * dpr + reach, dy = view.y * dpr + reach;
  for (const pass of chosen.length ? [0, 1] : [0]) {
    const strength = chosen.length && !pass ? 44 : 256;
    for (let q = 0; q < n; q++) {
      const i = order[q];
      if (!shown[look[i]] || (chosen.length && selected[i] !== pass)) continue;
      const x = Math.round(U[i] * s + dx), y = Math.round(V[i] * s + dy);
      if (x < reach || y < reach || x >= w - reach || y >= h - reach) continue;
      const { offset, colour, red, green, blue, cover } = stamps[look[i]], place = y * w + x;
      for (let k = 0; k < offset.length; k++) {
        const a = (cover[k] * strength) >> 8, at32 = place + offset[k];
        if (a > 250) { to32[at32] = colour[k]; continue; }
        const into = at32 << 2;
        to[into] += ((red[k] - to[into]) * a) >> 8;
        to[into + 1] += ((green[k] - to[into + 1]) * a) >> 8;
        to[into + 2] += ((blue[k] - to[into + 2]) * a) >> 8;
      }
    }
  }
  points.getContext("2d").putImageData(buffer, -reach, -reach);
  renderOver();
}
const redraw = () => { if (!queued) { queued = true; requestAnimationFrame(render); } };

let loop = []; // the lasso, in pixels of the stage
function renderOver() {
  const pen = over.getContext("2d");
  pen.setTransform(dpr, 0, 0, dpr, 0, 0);
  pen.clearRect(0, 0, W, H);
  for (const i of [ringed, hovered]) {
    if (i < 0) continue;
    pen.beginPath();
    pen.arc(U[i] * view.s + view.x, V[i] * view.s + view.y, radius() + 4, 0, 2 * Math.PI);
    pen.strokeStyle = css("--ink");
    pen.lineWidth = 2;
    pen.stroke();
  }
  if (loop.length > 1) {
    pen.beginPath();
    loop.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.fillStyle = css("--accent") + "22";
    pen.fill();
    pen.strokeStyle = css("--accent");
    pen.lineWidth = 1.5;
    pen.stroke();
  }
}

function measure() {
  const box = stage.getBoundingClientRect(), before = [W, H];
  dpr = Math.min(2, window.devicePixelRatio || 1);
  W = Math.max(1, stage.clientWidth);
  H = Math.max(1, stage.clientHeight);
  for (const canvas of [points, over]) { canvas.width = Math.round(W * dpr); canvas.height = Math.round(H * dpr); }
  if (before[0] === 1 || view.s === whole) fit(); else { view.x += (W - before[0]) / 2; view.y += (H - before[1]) / 2; redraw(); }
  return box;
}
function fit() {
  whole = Math.max(1, Math.min((W - 28) / wide, (H - 28) / high));
  view = { s: whole, x: (W - wide * whole) / 2, y: (H - high * whole) / 2 };
  redraw();
}
function zoom(factor, x = W / 2, y = H / 2) {
  const s = Math.min(whole * 400, Math.max(whole * 0.4, view.s * factor));
  view = { s, x: x - (x - view.x) * (s / view.s), y: y - (y - view.y) * (s / view.s) };
  hover(-1);
  redraw();
}
function pan(dx, dy) {
  view.x += dx;
  view.y += dy;
  hover(-1);
  redraw();
}

function under(x, y) { // the nearest point shown, at most a finger's breadth away
  const reach = 14 / view.s, u = (x - view.x) / view.s, v = (y - view.y) / view.s;
  const low = (t) => Math.max(0, Math.floor((t - reach) * side)), top = (t) => Math.min(side - 1, Math.floor((t + reach) * side));
  let best = -1, least = reach * reach;
  for (let cy = Math.min(low(v), side - 1); cy <= top(v); cy++) {
    for (let cx = Math.min(low(u), side - 1); cx <= top(u); cx++) {
      for (let k = first[cy * side + cx]; k < first[cy * side + cx + 1]; k++) {
        const i = inCells[k], d = (U[i] - u) ** 2 + (V[i] - v) ** 2;
        if (d <= least && shown[look[i]]) { best = i; least = d; }
      }
    }
  }
  return best;
}
