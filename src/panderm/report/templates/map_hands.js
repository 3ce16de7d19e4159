// Hands: mouse, fingers, keys.
const fingers = new Map();
let drag = null, space = false;
const place = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
};
stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, place(event));
  const moving = mode === "move" || event.button === 1 || event.button === 2 || space || fingers.size > 1;
  const how = event.shiftKey ? "add" : event.altKey ? "remove" : "replace";
  drag = { kind: moving ? "move" : "lasso", how, from: place(event), far: fingers.size > 1 };
  loop = moving ? [] : [place(event)];
  stage.focus({ preventScroll: true });
});
stage.addEventListener("pointermove", (event) => {
  const now = place(event), before = fingers.get(event.pointerId);
  if (!before) { hover(under(...now)); return; }
  if (fingers.size > 1) {
    const other = [...fingers.entries()].find(([id]) => id !== event.pointerId)[1];
    const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  } else if (drag.kind === "move") pan(now[0] - before[0], now[1] - before[1]);
  else if (Math.hypot(now[0] - loop.at(-1)[0], now[1] - loop.at(-1)[1]) > 3) { loop.push(now); hover(-1); renderOver(); }
  if (Math.hypot(now[0] - drag.from[0], now[1] - drag.from[1]) > 5) drag.far = true;
  fingers.set(event.pointerId, now);
});
const letGo = (event) => {
  if (!fingers.delete(event.pointerId) || fingers.size) return;
  if (event.type === "pointerup" && drag.kind === "lasso" && loop.length > 2) lassoed(drag.how);
  else if (event.type === "pointerup" && !drag.far) {
    const i = under(...place(event));
    hover(i);
    if (i >= 0 && mode === "lasso" && drag.kind === "lasso") select((j) => j === i, drag.how);
  }
  loop = [];
  renderOver();
};
stage.addEventListener("pointerup", letGo);
stage.addEventListener("pointercancel", letGo);
stage.addEventListener("pointerleave", () => hover(-1));
stage.addEventListener("contextmenu", (event) => event.preventDefault());
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const step = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? H : 1);
  zoom(Math.exp(-Math.max(-240, Math.min(240, step)) * 0.0016), ...place(event));
}, { passive: false });
const KEYS = {
  ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
  "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: fit, Enter: inView, Escape: () => select(() => false), " ": () => { space = true; },
};
stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});
window.addEventListener("keyup", (event) => { if (event.key === " ") space = false; });

function setMode(to) {
  mode = to;
  for (const name of ["lasso", "move"]) at(name).setAttribute("aria-pressed", String(name === to));
  stage.classList.toggle("moving", to === "move");
}
at("lasso").addEventListener("click", () => setMode("lasso"));
at("move").addEventListener("click", () => setMode("move"));
at("closer").addEventListener("click", () => zoom(1.5));
at("farther").addEventListener("click", () => zoom(1 / 1.5));
at("whole").addEventListener("click", fit);
at("size").addEventListener("input", redraw);
at("view").addEventListener("click", inView);
at("clear").addEventListener("click", () => select(() => false));
at("all").addEventListener("click", () => { shown.fill(1); legend(); redraw(); });
at("more").addEventListener("click", () => { pages++; lay(); });
at("csv").addEventListener("click", download);

const colour = at("colour");
data.columns.forEach((one, k) => { const option = make("option", one.name); option.value = String(k); colour.append(option); });
colour.parentElement.hidden = data.columns.length < 2;
colour.addEventListener("change", () => { column = data.columns[Number(colour.value)]; shown = new Uint8Array(0); recolour(); });
function recolour() {
  hover(-1);
  paint();
  legend();
  if (chosen.length) { tabulate(); lay(); }
  redraw();
}
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
paint();
legend();
new ResizeObserver(measure).observe(stage);
measure();
