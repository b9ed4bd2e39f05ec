"use strict";
// The page: its state, its controls, and the address that keeps the state.

const element = (id) => document.getElementById(id);
const fit = new Fit(JSON.parse(element("data").textContent));
const canvas = document.createElement("canvas");
const stops = distanceStops();

/** What the page shows; `row` is the chosen superpixel's place in the fit. */
const state = {
  quantity: "temperature", estimate: Object.keys(fit.estimates)[0], distance: clearestStop(),
  row: 0, grey: true, range: home(fit), reach: defaultReach(),
};
let list = quantities(fit, state.estimate);
let view = null;

const chosenQuantity = () => list.find((quantity) => quantity.id === state.quantity) || list[0];

/** Return the distances of the slider: middles of voxels, or even steps where edges differ. */
function distanceStops() {
  if (fit.sharedEdges) {
    const edges = fit.edges(0);
    return edges.slice(1).map((far, k) => (edges[k] + far) / 2);
  }
  let near = Infinity, far = 0;
  for (let row = 0; row < fit.count; row++) {
    near = Math.min(near, fit.arrays.edge(row, 1));
    far = Math.max(far, fit.edges(row).at(-1));
  }
  const start = near / 2, end = far * 0.999;
  return Array.from({ length: 121 }, (_, k) => start * (end / start) ** (k / 120));
}

/** Return how far the view of space reaches at first: as far as half of the dusty voxels. */
function defaultReach() {
  const distances = dustiest(fit, { estimate: "fit" }, Infinity).shown
    .map((point) => point.distance).sort((one, other) => one - other);
  const most = distances[Math.floor(distances.length / 2)] || 0;
  return reaches(fit).find((reach) => reach >= most);
}

/** Return the distance at which most superpixels have a temperature that is a measurement. */
function clearestStop() {
  const numbers = stops.map((distance) => {
    let count = 0;
    for (let row = 0; row < fit.count; row++) {
      const voxel = fit.voxelAt(row, distance);
      if (voxel >= 0 && !fit.parameter("fit", "temperature", row, voxel).priorDominated) count++;
    }
    return count;
  });
  return stops[numbers.indexOf(Math.max(...numbers))];
}

/** Return the place of the slider that is nearest to a distance. */
function stopOf(distance) {
  const misses = stops.map((stop) => Math.abs(Math.log(stop / distance)));
  return misses.indexOf(Math.min(...misses));
}

function distanceWords(row, distance) {
  const voxel = fit.voxelAt(row, distance), edges = fit.edges(row);
  const words = voxel < 0 ? `beyond ${short(edges.at(-1))} kpc: no voxel`
    : `${short(edges[voxel])}–${short(edges[voxel + 1])} kpc`;
  return fit.sharedEdges ? `${words} (voxel ${voxel + 1} of ${edges.length - 1})`
    : `${short(distance)} kpc; the chosen superpixel’s voxel: ${words}`;
}

/** Say what the map holds in one superpixel. */
function reading(row) {
  const quantity = chosenQuantity(), { value, kind } = appearance(fit, state, quantity, row);
  const voxel = fit.voxelAt(row, state.distance), edges = fit.edges(row);
  const sd = quantity.parameter && voxel >= 0
    ? quantity.factor * fit.parameter(state.estimate, quantity.parameter, row, voxel).sd : NaN;
  const number = quantity.scale === null ? (value ? "yes" : "no")
    : `${format(value, sd)}${Number.isFinite(sd) ? ` ± ${format(sd, sd)}` : ""} ${quantity.unit}`.trim();
  const [l, b] = pix2ang(fit.nside, fit.superpixel(row));
  const where = `Superpixel ${fit.superpixel(row)} at l = ${l.toFixed(2)}°, b = ${format(b, 0.1)}°`;
  const span = quantity.perVoxel && voxel >= 0 ? `, ${short(edges[voxel])}–${short(edges[voxel + 1])} kpc` : "";
  const known = quantity.parameter && voxel >= 0
    && fit.parameter(state.estimate, quantity.parameter, row, voxel).priorDominated;
  const remark = kind === "failed" ? "; the fit did not converge"
    : kind === "none" ? "; no data here" : known ? "; the prior dominates: no measurement" : "";
  return { text: `${where}${span}: ${quantity.label} ${number}${remark}`, value, kind };
}

function showReading(row) {
  const { text, value, kind } = reading(row);
  const readout = element("readout");
  readout.textContent = text;
  Object.assign(readout.dataset, { value, kind, superpixel: fit.superpixel(row) });
}

function drawMap() {
  const map = element("map"), quantity = chosenQuantity();
  const width = Math.max(200, map.clientWidth), { x, y } = state.range;
  const height = width * (y[1] - y[0]) / (x[1] - x[0]), below = 68;
  const size = Math.min(1100, Math.round(width * Math.min(2, window.devicePixelRatio || 1)));
  if (!view || view.range !== state.range || view.width !== size) {
    view = new View(fit, state.range, size, Math.round(size * height / width));
  }
  const shown = paint(canvas, fit, state, quantity, view);
  const axis = { visible: false, fixedrange: false }, compact = width < 520;
  const lines = graticule(state.range);
  const layout = {
    font: FONT, width, height: height + below, dragmode: "pan",
    // The colour bar would widen the margin, and the map would no longer fill its place.
    margin: { l: 0, r: 0, t: 0, b: below, autoexpand: false },
    hovermode: "closest", hoveranywhere: true, clickanywhere: true, paper_bgcolor: "white", plot_bgcolor: "white",
    xaxis: { ...axis, range: [...x] }, yaxis: { ...axis, range: [...y], scaleanchor: "x" },
    annotations: lines.labels.map((label) => ({
      ...label, showarrow: false, bgcolor: "rgba(255,255,255,0.7)", borderpad: 1,
      font: { size: compact ? 9 : 11, color: INK },
    })),
    images: [{
      source: canvas.toDataURL(), xref: "x", yref: "y", x: x[0], y: y[1], sizex: x[1] - x[0],
      sizey: y[1] - y[0], sizing: "stretch", layer: "below",
    }],
  };
  Plotly.react(map, mapTraces(fit, state, quantity, lines.line, compact), layout,
    { ...PLOT, scrollZoom: true, doubleClick: false });
  drawLegend(shown, quantity.scale ? fit.scales[quantity.scale].extend : "neither");
}

/** Explain the greys that the map shows, and where its colours end. */
function drawLegend(shown, extend) {
  const css = (colour) => `rgb(${colour.join(",")})`;
  const striped = ([one, other]) => `repeating-linear-gradient(135deg, ${css(one)} 0 4px, ${css(other)} 4px 8px)`;
  const known = {
    none: [css(NO_DATA), "no data"],
    prior: [striped(PRIOR_STRIPES), `the prior dominates (σ above ${fit.prior_dominated} of the prior’s): no measurement`],
    failed: [striped(FAILED_STRIPES), "the fit did not converge"],
  };
  element("legend").replaceChildren(...Object.keys(known).filter((kind) => shown.has(kind)).map((kind) => {
    const entry = document.createElement("span"), swatch = document.createElement("i");
    swatch.style.background = known[kind][0];
    entry.append(swatch, known[kind][1]);
    return entry;
  }));
  const ends = { min: "below", max: "above", both: "below and above" }[extend];
  if (ends) {
    const entry = document.createElement("span");
    entry.textContent = `Values ${ends} the bar have the colour of its end.`;
    element("legend").append(entry);
  }
}

function fillTable(id, rows) {
  element(id).querySelector("tbody").replaceChildren(...rows.map(({ cells, grey, here }) => {
    const line = document.createElement("tr");
    line.classList.toggle("here", Boolean(here));
    cells.forEach((text, column) => {
      const cell = document.createElement(column ? "td" : "th");
      if (!column) cell.scope = "row";
      cell.textContent = text;
      cell.classList.toggle("grey", Boolean(grey && grey[column]));
      line.append(cell);
    });
    return line;
  }));
}

/** Draw a figure as wide as its place; no plot follows the window by itself. */
function draw(id, { data, layout }) {
  Plotly.react(id, data, { ...layout, width: element(id).clientWidth }, PLOT);
}

function drawChoice() {
  const { row } = state, entries = Object.entries(facts(fit, state, row));
  // What is the same along the whole sightline is at no distance.
  const marked = chosenQuantity().perVoxel, shown = { ...state, distance: marked ? state.distance : NaN };
  element("choice-title").textContent = `Superpixel ${fit.superpixel(row)}`;
  element("facts").replaceChildren(...entries.map(([name, value]) => {
    const box = document.createElement("div");
    const term = document.createElement("dt"), detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = value;
    box.append(term, detail);
    return box;
  }));
  draw("sightline", sightlineFigure(fit, shown, row));
  draw("spectrum", spectrumFigure(fit, row));
  element("spectrum-note").textContent = spectrumNote(fit, row);
  fillTable("voxels", voxelTable(fit, shown, row));
  fillTable("bands", bandTable(fit, row));
  const estimate = state.estimate === "fit" ? "Maximum a posteriori ± Laplace standard deviation"
    : "Posterior median, bars from 16 to 84 %, ± standard deviation in the table";
  element("sightline-note").textContent = `${estimate}. Grey band: the middle 68 % of the prior. `
    + "Grey, open points: no measurement, because the prior dominates (*) or the fit did not converge."
    + (marked ? " Yellow: the map’s distance." : "");
  const [l, b] = pix2ang(fit.nside, fit.superpixel(row));
  element("longitude").value = l.toFixed(3);
  element("latitude").value = b.toFixed(3);
}

function drawSpace() {
  const figure = spaceFigure(fit, state, state.reach, element("space").clientWidth < 520);
  const [count, total] = [figure.count, figure.total].map((number) => number.toLocaleString("en"));
  const chosen = figure.count < figure.total ? `The ${count} dustiest of ${total} voxels`
    : figure.total === 1 ? "The only voxel" : `All ${total} voxels`;
  element("space-note").textContent = `${chosen} whose middle, where the point stands, is nearer than `
    + `${short(state.reach)} kpc. Size grows with reddening. The Sun is in the middle, x points to the Galactic centre, z to the North.`;
  draw("space", figure);
}

function drawSlider() {
  const slider = element("distance"), quantity = chosenQuantity();
  slider.max = stops.length - 1;
  slider.value = stopOf(state.distance);
  slider.disabled = !quantity.perVoxel;
  slider.parentElement.classList.toggle("off", slider.disabled);
  const words = quantity.perVoxel ? distanceWords(state.row, state.distance)
    : "the same along the whole sightline";
  element("distance-text").textContent = words;
  slider.setAttribute("aria-valuetext", words);
}

/** Turn the line in space to the chosen superpixel, without drawing all the voxels again. */
function pointAt() {
  const { x, y, z } = sightlineInSpace(fit, state.row, state.reach);
  Plotly.restyle("space", { x: [x], y: [y], z: [z] }, [element("space").data.length - 1]);
}

/** Label the slider by the edges of voxels, or by round distances where edges differ. */
function labelSlider() {
  const last = stops.length - 1;
  const place = fit.sharedEdges
    ? fit.edges(0).map((edge, k) => [edge, Math.max(0, Math.min(1, (k - 0.5) / Math.max(1, last)))])
    : ticks(stops[0], stops[last], true).map((edge) => [edge, Math.log(edge / stops[0]) / Math.log(stops[last] / stops[0])]);
  const skip = Math.ceil(place.length / 12);
  element("distance-ticks").classList.toggle("dense", place.length > 6);
  element("distance-ticks").replaceChildren(...place.filter((_, k) => k % skip === 0).map(([edge, share]) => {
    const label = document.createElement("span");
    label.textContent = short(edge);
    label.style.left = `${100 * share}%`;
    return label;
  }));
}

function fillQuantities() {
  list = quantities(fit, state.estimate);
  const groups = [...new Set(list.map((quantity) => quantity.group))];
  element("quantity").replaceChildren(...groups.map((name) => {
    const group = document.createElement("optgroup");
    group.label = name;
    group.append(...list.filter((quantity) => quantity.group === name)
      .map((quantity) => new Option(quantity.label, quantity.id)));
    return group;
  }));
}

/** Draw again what depends on what has changed. */
function update(changes, { keepAddress = false } = {}) {
  const before = { ...state, perVoxel: chosenQuantity().perVoxel };
  Object.assign(state, changes);
  const changed = (name) => before[name] !== state[name];
  if (changed("estimate")) fillQuantities();
  element("quantity").value = chosenQuantity().id;
  element("estimate").value = state.estimate;
  element("grey").checked = state.grey;
  element("reach").value = String(state.reach);
  drawSlider();
  drawMap();
  showReading(state.row);
  if (["row", "distance", "estimate"].some(changed) || before.perVoxel !== chosenQuantity().perVoxel) drawChoice();
  if (["estimate", "reach"].some(changed) || before.row < 0) drawSpace();
  else if (changed("row")) pointAt();
  if (!keepAddress) keepState();
}

function keepState() {
  const [l, b] = pix2ang(fit.nside, fit.superpixel(state.row));
  const words = new URLSearchParams({
    q: state.quantity, d: state.distance.toPrecision(4), l: l.toFixed(4), b: b.toFixed(4),
  });
  if (Object.keys(fit.estimates).length > 1) words.set("e", state.estimate);
  if (!state.grey) words.set("grey", "0");
  history.replaceState(null, "", `#${words}`);
}

/** Return the state that the page's address holds; what is impossible there is passed over. */
function addressedState() {
  const words = new URLSearchParams(location.hash.slice(1)), found = {};
  if (fit.estimates[words.get("e")]) found.estimate = words.get("e");
  if (list.some((quantity) => quantity.id === words.get("q"))) found.quantity = words.get("q");
  if (parseFloat(words.get("d")) > 0) found.distance = stops[stopOf(parseFloat(words.get("d")))];
  const [l, b] = [parseFloat(words.get("l")), parseFloat(words.get("b"))];
  if (Number.isFinite(l) && Math.abs(b) <= 90) {
    const row = fit.row(ang2pix(fit.nside, l, b));
    if (row >= 0) found.row = row;
  }
  if (words.has("grey")) found.grey = words.get("grey") !== "0";
  return found;
}

/** Return the superpixel to begin with: the one whose temperature is known best. */
function bestKnown() {
  let best = 0, least = Infinity;
  for (let row = 0; row < fit.count; row++) {
    let sum = 0;
    for (let voxel = 0; voxel < fit.arrays.n_voxel(row); voxel++) {
      const { sd } = fit.parameter("fit", "temperature", row, voxel);
      sum += Number.isFinite(sd) ? sd : 100;
    }
    const mean = sum / fit.arrays.n_voxel(row);
    if (fit.arrays.converged(row) && mean < least) [best, least] = [row, mean];
  }
  return best;
}

/** Choose the superpixel at a direction; where the fit has none say so. */
function choose(longitude, latitude) {
  const superpixel = ang2pix(fit.nside, longitude, latitude), row = fit.row(superpixel);
  if (row >= 0) update({ row });
  else element("readout").textContent = `The fit has no superpixel at l = ${longitude.toFixed(2)}°, b = ${format(latitude, 0.1)}°.`;
}

function zoom(factor) {
  const { x, y } = state.range;
  if (factor > 1 && x[1] - x[0] >= WHOLE_SKY.x[1] - WHOLE_SKY.x[0]) return;
  const [cx, cy] = toMollweide(...pix2ang(fit.nside, fit.superpixel(state.row)));
  const half = [x[1] - x[0], y[1] - y[0]].map((side) => (side / 2) * factor);
  update({ range: { x: [cx - half[0], cx + half[0]], y: [cy - half[1], cy + half[1]] } });
}

/** Choose the nearest superpixel of the fit towards a side. */
function step(right, up) {
  const [l, b] = pix2ang(fit.nside, fit.superpixel(state.row)), size = 58.6 / fit.nside;
  for (let far = 0.5; far <= 6; far += 0.5) {
    const latitude = Math.max(-90, Math.min(90, b + up * far * size));
    const longitude = l - (right * far * size) / Math.max(0.05, Math.cos(b * RADIAN));
    const row = fit.row(ang2pix(fit.nside, longitude, latitude));
    if (row >= 0 && row !== state.row) { update({ row }); return; }
  }
}

function listen() {
  element("quantity").addEventListener("change", (event) => update({ quantity: event.target.value }));
  element("estimate").addEventListener("change", (event) => update({ estimate: event.target.value }));
  element("grey").addEventListener("change", (event) => update({ grey: event.target.checked }));
  element("reach").addEventListener("change", (event) => update({ reach: Number(event.target.value) }));
  element("distance").addEventListener("input", (event) => update({ distance: stops[event.target.value] }));
  element("reset").addEventListener("click", () => update({ range: home(fit) }));
  element("goto").addEventListener("submit", (event) => {
    event.preventDefault();
    choose(Number(element("longitude").value), Number(element("latitude").value));
  });
  const map = element("map");
  const keys = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, 1), ArrowDown: () => step(0, -1),
    "+": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => update({ range: home(fit) }),
  };
  map.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  map.on("plotly_click", ({ xvals, yvals }) => {
    const place = fromMollweide(xvals[0], yvals[0]);
    if (place) choose(...place);
  });
  map.on("plotly_hover", ({ xvals, yvals }) => {
    const place = xvals && fromMollweide(xvals[0], yvals[0]);
    const row = place ? fit.row(ang2pix(fit.nside, ...place)) : -1;
    if (row >= 0) showReading(row);
  });
  map.addEventListener("mouseleave", () => showReading(state.row));
  map.on("plotly_relayout", () => {
    const { xaxis, yaxis } = map.layout;
    update({ range: { x: [...xaxis.range], y: [...yaxis.range] } });
  });
  element("space").on("plotly_click", ({ points }) => {
    const found = points[0].customdata;
    if (found) update({ row: found[0], distance: stops[stopOf(found[1])] });
  });
  window.addEventListener("hashchange", () => update(addressedState(), { keepAddress: true }));
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => [drawMap, drawChoice, drawSpace].forEach((part) => part()), 100);
  });
}

function begin() {
  fillQuantities();
  element("estimate").append(new Option("maximum a posteriori", "fit"), new Option("posterior", "posterior"));
  element("estimate-label").hidden = Object.keys(fit.estimates).length < 2;
  element("reach").append(...reaches(fit).map((reach) => new Option(`${short(reach)} kpc`, String(reach))));
  labelSlider();
  // No row yet, so that everything is drawn.
  const first = { row: bestKnown(), ...addressedState() };
  state.row = -1;
  update(first, { keepAddress: true });
  listen();
  document.documentElement.dataset.ready = "true";
}

begin();
