// What is told of points: the one under the pointer, those selected, and the legend.

const picture = (i) => {
  const held = data.pictures[i];
  if (typeof held === "number") return make("div", data.reasons[held], "missing");
  const image = make("img");
  image.src = "data:image/jpeg;base64," + held;
  image.alt = "";
  return image;
};
function hover(i) {
  if (i === hovered) return;
  hovered = i;
  tip.hidden = i < 0;
  if (i >= 0) {
    const words = make("div");
    words.append(make("b", data.image[i]));
    const told = [column, ...data.columns.filter((one) => one !== column)].filter((one) => one && value(one, i) !== "");
    for (const one of told.slice(0, 5)) words.append(make("span", `${one.name}: ${value(one, i)}`));
    tip.replaceChildren(picture(i), words);
    const x = U[i] * view.s + view.x, y = V[i] * view.s + view.y;
    tip.style.left = `${Math.max(4, x + 14 + tip.offsetWidth > W ? x - 14 - tip.offsetWidth : x + 14)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 10, H - tip.offsetHeight - 4))}px`;
  }
  renderOver();
}

// Selecting.
function inside(loopUV, u, v) {
  let odd = false;
  for (let a = 0, b = loopUV.length - 1; a < loopUV.length; b = a++) {
    const [ua, va] = loopUV[a], [ub, vb] = loopUV[b];
    if (va > v !== vb > v && u < ((ub - ua) * (v - va)) / (vb - va) + ua) odd = !odd;
  }
  return odd;
}
function select(wanted, how) { // wanted(i) of the points that are shown
  for (let i = 0; i < n; i++) {
    const hit = shown[look[i]] && wanted(i);
    if (how === "add") selected[i] |= hit ? 1 : 0;
    else if (how === "remove") { if (hit) selected[i] = 0; }
    else selected[i] = hit ? 1 : 0;
  }
  tell();
}
function lassoed(how) {
  const uv = loop.map(([x, y]) => [(x - view.x) / view.s, (y - view.y) / view.s]);
  const [u0, u1] = extent(uv.map((p) => p[0])), [v0, v1] = extent(uv.map((p) => p[1]));
  select((i) => U[i] >= u0 && U[i] <= u1 && V[i] >= v0 && V[i] <= v1 && inside(uv, U[i], V[i]), how);
}
const inView = () => select((i) => {
  const x = U[i] * view.s + view.x, y = V[i] * view.s + view.y;
  return x >= 0 && y >= 0 && x <= W && y <= H;
});

function tell() {
  chosen = [];
  for (let i = 0; i < n; i++) if (selected[i]) chosen.push(i);
  const k = chosen.length;
  at("count").textContent = k ? `${many(k, "image")} of ${n.toLocaleString("en")} (${(k / n * 100).toFixed(1)} %)` : "Nothing is selected: drag around some points.";
  at("chosen").hidden = !k;
  at("clear").disabled = !k;
  pages = 1;
  ringed = -1;
  if (k) { tabulate(); lay(); }
  redraw();
}
function tabulate() {
  const table = at("classes"), [caption, head, body] = ["caption", "thead", "tbody"].map((tag) => table.querySelector(tag));
  head.replaceChildren();
  body.replaceChildren();
  table.hidden = !column;
  if (!column) return;
  caption.textContent = `${column.name} of the selection`;
  const row = (cells, place, scope) => {
    const line = make("tr");
    cells.forEach((text, c) => {
      const cell = make(scope === "col" || c === 0 ? "th" : "td", text);
      if (cell.tagName === "TH") cell.scope = scope;
      line.append(cell);
    });
    place.append(line);
  };
  if (column.kind === "numbers") {
    const known = chosen.map((i) => column.values[i]).filter((x) => x !== null).sort((a, b) => a - b), m = known.length;
    row(["", "images", "empty", "least", "median", "greatest"], head, "col");
    const middle = m ? (known[(m - 1) >> 1] + known[m >> 1]) / 2 : 0;
    row(["selected", m.toLocaleString("en"), String(chosen.length - m), ...(m ? [known[0], middle, known[m - 1]].map(short) : ["–", "–", "–"])], body, "row");
    return;
  }
  const counts = new Uint32Array(styles.length), share = (part, all) => (all ? `${(part / all * 100).toFixed(1)} %` : "–");
  for (const i of chosen) counts[look[i]]++;
  row([column.header, "selected", "share of the selection", "share of all images", "share of that value"], head, "col");
  styles.forEach((one, s) => {
    if (counts[s]) row([one.name, counts[s].toLocaleString("en"), share(counts[s], chosen.length), share(one.count, n), share(counts[s], one.count)], body, "row");
  });
}
function toPoint(i) { // the map moves until the point lies in its middle
  view.x = W / 2 - U[i] * view.s;
  view.y = H / 2 - V[i] * view.s;
  stage.scrollIntoView({ block: "nearest" });
  redraw();
}
function lay() { // the contact sheet
  const sheet = at("sheet"), upTo = Math.min(chosen.length, 120 * pages);
  sheet.replaceChildren(...chosen.slice(0, upTo).map((i) => {
    const item = make("li"), button = make("button");
    button.type = "button";
    const told = column ? value(column, i) || "(empty)" : "";
    button.append(picture(i), make("span", told, "value"), make("span", data.image[i], "name"));
    button.title = `${data.image[i]}${told ? `, ${told}` : ""}: show it on the map`;
    const ring = () => { ringed = i; renderOver(); };
    const unring = () => { ringed = -1; renderOver(); };
    for (const kind of ["mouseenter", "focus"]) button.addEventListener(kind, ring);
    for (const kind of ["mouseleave", "blur"]) button.addEventListener(kind, unring);
    button.addEventListener("click", () => { ring(); toPoint(i); });
    item.append(button);
    return item;
  }));
  at("more").hidden = upTo === chosen.length;
  at("more").textContent = `Show more (${(chosen.length - upTo).toLocaleString("en")} left)`;
}

const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
function asCsv() {
  const lines = [["image", ...data.columns.map((one) => one.header), "x", "y"]];
  for (const i of chosen) lines.push([data.image[i], ...data.columns.map((one) => value(one, i)), String(data.x[i]), String(data.y[i])]);
  return lines.map((line) => line.map(cell).join(",") + "\n").join("");
}
function download() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([asCsv()], { type: "text/csv" }));
  link.download = `${data.name}_selected.csv`;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// The legend.
function swatch(one) {
  const canvas = make("canvas"), pen = canvas.getContext("2d");
  canvas.width = canvas.height = 28;
  canvas.style.width = canvas.style.height = "14px";
  trace(pen, one.shape, 14, 14, 9);
  pen.fillStyle = `rgb(${one.rgb})`;
  pen.fill();
  return canvas;
}
function legend() {
  at("legend-title").textContent = column ? column.name : "Points";
  const scale = at("scale"), numbers = Boolean(column) && column.kind === "numbers";
  scale.hidden = !numbers;
  scale.replaceChildren();
  if (numbers) {
    const canvas = make("canvas"), pen = canvas.getContext("2d"), ends = make("p");
    canvas.width = BINS;
    canvas.height = 1;
    for (let b = 0; b < BINS; b++) { pen.fillStyle = `rgb(${styles[b].rgb})`; pen.fillRect(b, 0, 1, 1); }
    const [least, most] = extent(column.values.filter((x) => x !== null));
    ends.append(make("span", (least < column.low ? "≤ " : "") + short(column.low)), make("span", (most > column.high ? "≥ " : "") + short(column.high)));
    scale.append(canvas, ends);
  }
  const items = [];
  styles.forEach((one, s) => {
    if (!one.name || !one.count) return;
    const item = make("li"), toggle = make("button"), only = make("button", "only", "only");
    toggle.type = only.type = "button";
    toggle.setAttribute("aria-pressed", String(Boolean(shown[s])));
    toggle.title = "Show or hide";
    toggle.append(swatch(one), make("span", one.name, "name"), make("span", one.count.toLocaleString("en"), "n"));
    toggle.addEventListener("click", () => { shown[s] ^= 1; after(s); });
    only.setAttribute("aria-label", `Show only ${one.name}`);
    only.addEventListener("click", () => { shown.fill(0); shown[s] = 1; after(s); });
    item.append(toggle, only);
    items.push(item);
  });
  at("legend").replaceChildren(...items);
  at("all").hidden = items.length < 2;
  function after(s) {
    const place = items.findIndex((_, k) => styles.filter((one) => one.name && one.count)[k] === styles[s]);
    hover(-1);
    legend();
    redraw();
    at("legend").children[place]?.firstChild.focus();
  }
}
