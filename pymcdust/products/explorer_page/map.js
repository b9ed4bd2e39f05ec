"use strict";
// The map: an image of the sky that is drawn for the part in view, a graticule, a colour bar.

const WHOLE_SKY = { x: [-2.06, 2.06], y: [-1.06, 1.06] };

// Greys say what no colour can: the fill where there are no data, and stripes.
const NO_DATA = [224, 224, 224];
const PRIOR_STRIPES = [[194, 194, 194], [148, 148, 148]];
const FAILED_STRIPES = [[51, 51, 51], [115, 115, 115]];
const STRIPE_WIDTH = 4; // image points

// No, yes: Okabe and Ito's colours, which the colour-blind tell apart as well.
const ANSWERS = ["#56b4e9", "#d55e00"];

/** Return red, green, blue of "#rrggbb". */
function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

/** Return red, green, blue as one number, as images of little-endian machines hold them. */
function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Return a function from values to red, green, blue, on a scale of the page. */
function painter(scale, factor) {
  const colours = scale.colours.map(rgb);
  const bend = scale.logarithmic ? Math.log : (x) => x;
  const low = bend(scale.low * factor), high = bend(scale.high * factor);
  return (value) => {
    const share = scale.logarithmic && value <= 0 ? 0 : (bend(value) - low) / (high - low);
    const place = Math.max(0, Math.min(1, share)) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2), part = place - below;
    return colours[below].map((c, k) => Math.round(c + part * (colours[below + 1][k] - c)));
  };
}

/** Return ticks of a scale: round numbers, closer on a logarithmic scale of few decades. */
function ticks(low, high, logarithmic) {
  const steps = [1, 2, 5, 10];
  if (logarithmic && high / low > 3) {
    const decades = Math.log10(high / low);
    const multiples = decades < 1.2 ? [1, 1.5, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const multiple of multiples) {
        const tick = Number((multiple * 10 ** power).toPrecision(6));
        if (tick >= low && tick <= high) found.push(tick);
      }
    }
    return found;
  }
  const rough = (high - low) / 7, power = 10 ** Math.floor(Math.log10(rough));
  const step = steps.find((s) => s * power >= rough) * power;
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) {
    found.push(Number((k * step).toPrecision(6)));
  }
  return found;
}

/** Where each point of an image of the view lies: the fit's row, -1 without data, -2 off the sky. */
class View {
  constructor(fit, range, width, height) {
    Object.assign(this, { range, width, height });
    this.rows = new Int32Array(width * height);
    const [left, right] = range.x, [bottom, top] = range.y;
    for (let j = 0; j < height; j++) {
      const y = top - ((j + 0.5) / height) * (top - bottom);
      for (let i = 0; i < width; i++) {
        const place = fromMollweide(left + ((i + 0.5) / width) * (right - left), y);
        this.rows[j * width + i] = place ? fit.row(ang2pix(fit.nside, ...place)) : -2;
      }
    }
  }
}

/** Say how each superpixel is painted: {value, kind: "value", "prior", "failed" or "none"}. */
function appearance(fit, state, quantity, row) {
  const voxel = fit.voxelAt(row, state.distance);
  if (quantity.perVoxel && voxel < 0) return { value: NaN, kind: "none" };
  const value = quantity.get(row, voxel);
  if (!Number.isFinite(value)) return { value, kind: "none" };
  if (quantity.parameter && fit.failed(state.estimate, row)) return { value, kind: "failed" };
  const known = quantity.parameter && fit.parameter(state.estimate, quantity.parameter, row, voxel);
  if (known && known.priorDominated && state.grey) return { value, kind: "prior" };
  return { value, kind: "value" };
}

/** Paint a view into a canvas; return which greys it shows. */
function paint(canvas, fit, state, quantity, view) {
  const colour = quantity.scale
    ? painter(fit.scales[quantity.scale], quantity.factor)
    : (answer) => rgb(ANSWERS[answer ? 1 : 0]);
  // Two colours for each superpixel, which alternate where it is striped.
  const colours = new Uint32Array(2 * fit.count), kinds = [];
  for (let row = 0; row < fit.count; row++) {
    const { value, kind } = appearance(fit, state, quantity, row);
    const stripes = { prior: PRIOR_STRIPES, failed: FAILED_STRIPES }[kind];
    const pair = stripes || Array(2).fill(kind === "none" ? NO_DATA : colour(value));
    colours.set(pair.map(packed), 2 * row);
    kinds.push(kind);
  }
  canvas.width = view.width;
  canvas.height = view.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(view.width, view.height);
  const points = new Uint32Array(image.data.buffer), noData = packed(NO_DATA);
  const shown = new Set();
  for (let j = 0, point = 0; j < view.height; j++) {
    for (let i = 0; i < view.width; i++, point++) {
      const row = view.rows[point];
      if (row === -2) continue;
      points[point] = row < 0 ? noData : colours[2 * row + (((i + j) / STRIPE_WIDTH) & 1)];
      shown.add(row < 0 ? "none" : kinds[row]);
    }
  }
  context.putImageData(image, 0, 0);
  return shown;
}

/** Append a polyline, lifting the pen where it leaves one side of the map for the other. */
function pushLine(line, directions) {
  let before = null;
  for (const [longitude, latitude] of directions) {
    const [x, y] = toMollweide(longitude, latitude);
    if (before !== null && Math.abs(x - before) > 1) { line.x.push(null); line.y.push(null); }
    line.x.push(x);
    line.y.push(y);
    before = x;
  }
  line.x.push(null);
  line.y.push(null);
}

/** Return lines and labels of a graticule as fine as the view needs. */
function graticule(range) {
  const height = (range.y[1] - range.y[0]) * 90; // roughly, in degrees
  const step = [30, 20, 10, 5, 2, 1, 0.5, 0.2].find((s) => height / s >= 4) || 0.1;
  const line = { x: [], y: [] }, labels = [];
  const middle = fromMollweide((range.x[0] + range.x[1]) / 2, (range.y[0] + range.y[1]) / 2) || [0, 0];
  const whole = range.x[0] <= -2 && range.x[1] >= 2;
  const width = ((range.x[1] - range.x[0]) * 90) / Math.max(0.1, Math.cos(middle[1] * RADIAN));
  const meridians = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30].find((s) => width / s <= 9) || 60;
  // Where the view is small only what is near is drawn.
  const reach = whole ? 90 : 1.2 * height;
  const near = (latitude) => whole || Math.abs(latitude - middle[1]) < reach;
  const row = whole ? 0 : Math.round(middle[1] / step) * step;
  const sample = Math.min(2, step / 5);
  const label = (longitude, latitude, text) => {
    const [x, y] = toMollweide(longitude, latitude);
    if (x <= range.x[0] || x >= range.x[1] || y <= range.y[0] || y >= range.y[1]) return;
    labels.push({ x, y, text });
  };
  const bound = Math.min(180, whole ? 180 : reach / Math.max(0.1, Math.cos(middle[1] * RADIAN)) * 2.5);
  const first = whole ? -180 : middle[0] - bound, last = whole ? 180 : middle[0] + bound;
  const low = Math.max(-90, whole ? -90 : middle[1] - reach);
  const high = Math.min(90, whole ? 90 : middle[1] + reach);
  for (let k = Math.ceil(first / meridians); k * meridians < last; k++) {
    const longitude = k * meridians, points = [];
    if (whole && k * meridians === -180) continue;
    for (let b = low; b <= high; b += sample) points.push([longitude, b]);
    pushLine(line, points);
    label(longitude, row, `${Number((((longitude % 360) + 360) % 360).toFixed(6))}°`);
  }
  for (let k = Math.ceil(-90 / step) + 1; k * step < 90; k++) {
    const latitude = k * step, points = [];
    if (!near(latitude)) continue;
    for (let l = first + 1e-6; l <= last - 1e-6; l += sample) points.push([l, latitude]);
    pushLine(line, points);
    if (latitude === row) continue;
    const sign = latitude > 0 ? "+" : latitude < 0 ? "−" : "";
    label(whole ? 150 : Math.round(middle[0] / step + 1.5) * step, latitude,
      `${sign}${Number(Math.abs(latitude).toFixed(6))}°`);
  }
  return { line, labels };
}

/** Return the ellipse around the sky. */
function outline() {
  const angles = Array.from({ length: 361 }, (_, k) => k * RADIAN);
  return { x: angles.map((a) => 2 * Math.cos(a)), y: angles.map((a) => Math.sin(a)) };
}

/** Return the traces over the map's image, among them one that only carries the colour bar. */
function mapTraces(fit, state, quantity, line, compact) {
  const scale = quantity.scale && fit.scales[quantity.scale];
  const contour = { x: [], y: [] };
  pushLine(contour, pixelOutline(fit.nside, fit.superpixel(state.row), 8));
  const plain = { hoverinfo: "skip", showlegend: false, mode: "lines" };
  const traces = [
    // White on dark colours, dark on light ones.
    { ...plain, ...line, line: { color: "rgba(255,255,255,0.4)", width: 2 } },
    { ...plain, ...line, line: { color: "rgba(40,40,40,0.6)", width: 0.8 } },
    { ...plain, ...outline(), line: { color: INK, width: 1.2 } },
    { ...plain, ...contour, line: { color: "white", width: 5 } },
    { ...plain, ...contour, line: { color: "#d4006a", width: 2.5 } },
  ];
  const bar = {
    orientation: "h", x: 0.5, xanchor: "center", y: -0.01, yanchor: "top", len: compact ? 0.96 : 0.75,
    thickness: 14, outlinewidth: 0.5, ticks: "outside", ticklen: 4,
    title: { text: quantity.label + (quantity.unit ? ` [${quantity.unit}]` : ""), side: "bottom", font: { size: 13 } },
  };
  let marker;
  if (scale) {
    const bend = scale.logarithmic ? Math.log10 : (x) => x;
    const [low, high] = [scale.low, scale.high].map((limit) => limit * quantity.factor);
    const values = ticks(low, high, scale.logarithmic);
    marker = {
      cmin: bend(low), cmax: bend(high),
      colorscale: scale.colours.map((colour, k) => [k / (scale.colours.length - 1), colour]),
      colorbar: { ...bar, tickvals: values.map(bend), ticktext: values.map((v) => String(v).replace("-", "−")) },
    };
  } else {
    marker = {
      cmin: -0.5, cmax: 1.5,
      colorscale: [[0, ANSWERS[0]], [0.5, ANSWERS[0]], [0.5, ANSWERS[1]], [1, ANSWERS[1]]],
      colorbar: { ...bar, len: 0.3, tickvals: [0, 1], ticktext: ["no", "yes"] },
    };
  }
  traces.push({
    ...plain, mode: "markers", x: [0], y: [0],
    marker: { ...marker, color: [marker.cmin], opacity: 0, showscale: true },
  });
  return traces;
}

/** Return the part of the map that holds the fit: the whole sky unless it is a small patch. */
function home(fit) {
  if (fit.count >= 0.05 * 12 * fit.nside ** 2) return WHOLE_SKY;
  const box = { x: [Infinity, -Infinity], y: [Infinity, -Infinity] };
  for (let row = 0; row < fit.count; row++) {
    for (const direction of pixelOutline(fit.nside, fit.superpixel(row), 1)) {
      toMollweide(...direction).forEach((value, axis) => {
        const side = axis ? box.y : box.x;
        side[0] = Math.min(side[0], value);
        side[1] = Math.max(side[1], value);
      });
    }
  }
  const middle = [box.x, box.y].map(([low, high]) => (low + high) / 2);
  const half = 1.15 * Math.max((box.x[1] - box.x[0]) / 4, (box.y[1] - box.y[0]) / 2);
  if (half > 0.7) return WHOLE_SKY;
  return { x: [middle[0] - 2 * half, middle[0] + 2 * half], y: [middle[1] - half, middle[1] + half] };
}
