"use strict";
// What is shown of one superpixel: its numbers, its dust along the sightline, its spectrum.

// Voxels from near to far (Okabe and Ito).
const VOXEL_COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00"];
const DASHES = ["solid", "dash", "dot"];

const FREQUENCIES = Array.from({ length: 90 }, (_, k) => 100 * 60 ** (k / 89)); // GHz

/** Return the first distance of a logarithmic axis [kpc]: Bayestar's first slice, or nearer. */
function nearest(edges) { return Math.min(0.063, edges[1] / 2); }

/** Return the state of a superpixel in words, by headings. */
function facts(fit, state, row) {
  const [l, b] = pix2ang(fit.nside, fit.superpixel(row));
  const flags = fit.flagsInWords(row), ratio = fit.arrays.chi2(row);
  return {
    Superpixel: `${fit.superpixel(row)}`,
    "Galactic l, b": `${l.toFixed(2)}°, ${format(b, 0.1)}°`,
    "χ² per datum": format(ratio),
    Data: fit.arrays.n_data(row).toLocaleString("en"),
    Fit: fit.arrays.converged(row) ? "converged" : "did not converge",
    Flags: flags.length ? flags.join(", ") : "none",
  };
}

/** Return the rows of the table: one for each voxel, numbers as text. */
function voxelTable(fit, state, row) {
  const edges = fit.edges(row), here = fit.voxelAt(row, state.distance);
  return edges.slice(1).map((far, voxel) => {
    const cells = [`${short(edges[voxel])}–${short(far)}`], grey = [false];
    for (const [name, [, , , factor]] of Object.entries(SYMBOLS)) {
      const { value, sd, priorDominated } = fit.parameter(state.estimate, name, row, voxel);
      const error = Number.isFinite(sd) ? ` ± ${format(sd * factor, sd * factor)}` : "";
      cells.push(format(value * factor, sd * factor) + error + (priorDominated ? " *" : ""));
      grey.push(priorDominated || fit.failed(state.estimate, row));
    }
    cells.push(format(fit.arrays.reddening(row, voxel)));
    return { cells, grey, here: voxel === here };
  });
}

/** Return the rows of the table: one for each band, numbers as text. */
function bandTable(fit, row) {
  return fit.frequency.map((frequency, band) => {
    const seen = fit.arrays.emission(row, band), scatter = fit.arrays.emission_sd(row, band);
    const model = fit.emission(row, frequency, null, band);
    const noise = fit.arrays.sigma(row, band);
    // Means are known better than a pixel.
    const error = Math.min(scatter, noise) / 10 || noise / 10;
    return {
      cells: [fit.bands[band], `${format(seen, error)} ± ${format(scatter, scatter)}`,
        format(noise, noise), format(model, error), format(seen - model, error)],
    };
  });
}

/** Return one panel of the sightline: steps with error bars, and what the prior expects. */
function parameterTraces(fit, state, row, name, axis) {
  const [, symbol, unit, factor] = SYMBOLS[name];
  const edges = fit.edges(row), traces = [], shapes = [];
  const { prior, tying } = fit.parameters[name];
  const start = nearest(edges), end = edges[edges.length - 1];
  const yaxis = `y${axis > 1 ? axis : ""}`;
  if (prior) {
    shapes.push({
      type: "rect", xref: "x", yref: yaxis, x0: start, x1: end, layer: "below", line: { width: 0 },
      y0: prior[0] * factor, y1: prior[1] * factor, fillcolor: "rgba(120,120,120,0.16)",
    });
  }
  const perVoxel = fit.estimates[state.estimate][name].dims.includes("voxel");
  const spans = perVoxel ? edges.slice(1).map((far, k) => [Math.max(start, edges[k]), far]) : [[start, end]];
  const failed = fit.failed(state.estimate, row);
  for (const measured of [true, false]) {
    const colour = measured ? BLUE : GREY;
    const line = { x: [], y: [] }, points = { x: [], y: [], up: [], down: [], text: [] };
    spans.forEach(([near, far], voxel) => {
      const { value, sd, low, high, priorDominated } = fit.parameter(state.estimate, name, row, voxel);
      if (measured === (priorDominated || failed) || !Number.isFinite(value)) return;
      line.x.push(near, far, null);
      line.y.push(value * factor, value * factor, null);
      points.x.push(Math.sqrt(near * far));
      points.y.push(value * factor);
      points.up.push((high - value) * factor);
      points.down.push((value - low) * factor);
      const error = Number.isFinite(sd) ? ` ± ${format(sd * factor, sd * factor)}` : " (fixed)";
      points.text.push(`${symbol} = ${format(value * factor, sd * factor)}${error} ${unit}`
        + (priorDominated ? "<br>the prior dominates" : "") + (failed ? "<br>the fit did not converge" : ""));
    });
    const dash = tying === "fixed" ? "dash" : "solid";
    traces.push(
      { ...line, mode: "lines", line: { color: colour, width: 2.5, dash }, yaxis, hoverinfo: "skip" },
      {
        x: points.x, y: points.y, mode: "markers", yaxis, text: points.text, hoverinfo: "text",
        marker: { color: measured ? colour : "white", size: 7, symbol: "circle", line: { color: colour, width: 2 } },
        error_y: {
          type: "data", array: points.up, arrayminus: points.down, symmetric: false,
          color: colour, thickness: 1.5, width: 4, visible: tying !== "fixed",
        },
      });
  }
  return { traces, shapes };
}

/** Return the figure of temperature, beta, rho and reddening along the sightline. */
function sightlineFigure(fit, state, row) {
  const edges = fit.edges(row), start = nearest(edges), end = edges[edges.length - 1];
  const traces = [], shapes = [];
  const here = fit.voxelAt(row, state.distance);
  if (here >= 0) {
    shapes.push({
      type: "rect", xref: "x", yref: "paper", x0: Math.max(start, edges[here]), x1: edges[here + 1],
      y0: 0, y1: 1, layer: "below", fillcolor: BAND, opacity: 0.3, line: { width: 0 },
    });
  }
  Object.keys(SYMBOLS).forEach((name, index) => {
    const part = parameterTraces(fit, state, row, name, index + 1);
    traces.push(...part.traces);
    shapes.push(...part.shapes);
  });
  const dust = edges.slice(1).map((_, voxel) => fit.arrays.reddening(row, voxel));
  traces.push({
    x: edges.slice(1).flatMap((far, k) => [Math.max(start, edges[k]), far]),
    y: dust.flatMap((value) => [value, value]), mode: "lines", fill: "tozeroy", yaxis: "y4",
    line: { color: INK, width: 1 }, fillcolor: "rgba(27,31,36,0.25)",
    text: dust.flatMap((value) => Array(2).fill(`E(B−V) = ${format(value)} mag`)), hoverinfo: "text",
  });
  const axis = { gridcolor: "#e4e7eb", zeroline: false, nticks: 5, automargin: true };
  const title = (text) => ({ title: { text, font: { size: 12 }, standoff: 6 } });
  const rho = Object.values(SYMBOLS.rho);
  return {
    data: traces.map((trace) => ({ ...trace, xaxis: "x", showlegend: false })),
    layout: {
      font: FONT, height: 560, margin: { l: 62, r: 12, t: 10, b: 46 }, shapes, hovermode: "closest",
      hoverdistance: 40, dragmode: false, paper_bgcolor: "white", plot_bgcolor: "white",
      xaxis: {
        ...axis, ...title("distance [kpc]"), type: "log", range: [Math.log10(start), Math.log10(end)],
        tickvals: ticks(start, end, true), ticktext: ticks(start, end, true).map(short), anchor: "y4",
        fixedrange: true,
      },
      yaxis: { ...axis, ...title("T [K]"), domain: [0.62, 1], fixedrange: true },
      yaxis2: { ...axis, ...title("β"), domain: [0.42, 0.58], fixedrange: true, nticks: 4 },
      yaxis3: { ...axis, ...title(`ρ [${rho[2]}]`), domain: [0.22, 0.38], fixedrange: true, nticks: 4 },
      yaxis4: { ...axis, ...title("E(B−V) [mag]"), domain: [0, 0.18], fixedrange: true, nticks: 4, rangemode: "tozero" },
    },
  };
}

/** Say what of the data the spectrum does not show as they are. */
function spectrumNote(fit, row) {
  const offsets = fit.offsets(row), { bands, arrays } = fit;
  const low = bands.filter((_, band) => arrays.emission(row, band) - offsets[band] <= 0);
  const notes = [];
  if (offsets.some(Boolean)) notes.push("The offset of each band is taken from the data here; in the table it is part of the model.");
  if (low.length) {
    notes.push(`${low.length} of ${bands.length} points ${low.length > 1 ? "are" : "is"} not positive, `
      + `and cannot be drawn: ${low.join(", ")} GHz.`);
  }
  return notes.join(" ");
}

/** Return the figure of the spectrum: means of the data without offsets, each voxel's model, and their sum. */
function spectrumFigure(fit, row) {
  const edges = fit.edges(row), traces = [];
  const sum = FREQUENCIES.map((frequency) => fit.emission(row, frequency));
  edges.slice(1).forEach((far, voxel) => {
    if (!(fit.arrays.reddening(row, voxel) > 0)) return;
    traces.push({
      x: FREQUENCIES, y: FREQUENCIES.map((frequency) => fit.emission(row, frequency, voxel)),
      mode: "lines", name: `${short(edges[voxel])}–${short(far)} kpc`,
      line: {
        color: VOXEL_COLOURS[voxel % VOXEL_COLOURS.length], width: 1.5,
        dash: DASHES[Math.floor(voxel / VOXEL_COLOURS.length) % DASHES.length],
      },
    });
  });
  const offsets = fit.offsets(row);
  const seen = offsets.map((offset, band) => fit.arrays.emission(row, band) - offset);
  const scatter = fit.frequency.map((_, band) => fit.arrays.emission_sd(row, band));
  traces.push(
    { x: FREQUENCIES, y: sum, mode: "lines", name: "their sum", line: { color: INK, width: 2.5 } },
    {
      x: fit.frequency, y: seen, mode: "markers", name: `${offsets.some(Boolean) ? "data − offset" : "data"} ± scatter`,
      marker: { color: "white", size: 9, line: { color: RED, width: 2.5 } },
      error_y: { type: "data", array: scatter, color: RED, thickness: 1.5, width: 4 },
    });
  // A logarithm shows neither what is negative nor the far tails of faint voxels.
  const positive = [...seen, ...fit.frequency.map((f) => fit.emission(row, f))].filter((y) => y > 0);
  const high = Math.max(1e-6, ...positive, ...sum.filter(Number.isFinite)) * 3;
  const low = Math.min(high / 3, ...positive) / 30;
  const axis = { gridcolor: "#e4e7eb", zeroline: false, type: "log", fixedrange: true };
  const yTicks = ticks(low, high, true).filter((tick) => Number.isInteger(Math.round(1e9 * Math.log10(tick)) / 1e9));
  const room = { drawn: 270, legend: 24 * Math.ceil(traces.length / 2) };
  return {
    data: traces.map((trace) => ({ ...trace, hoverinfo: "name+x+y", hoverlabel: { namelength: -1 } })),
    layout: {
      font: FONT, height: 60 + room.drawn + room.legend, hovermode: "closest",
      margin: { l: 62, r: 12, t: 10, b: 50 + room.legend, autoexpand: false },
      dragmode: false, paper_bgcolor: "white", plot_bgcolor: "white",
      xaxis: {
        ...axis, title: { text: "frequency [GHz]", font: { size: 12 } }, range: [2, Math.log10(6000)],
        tickvals: fit.frequency, ticktext: fit.frequency.map((f) => String(f)),
      },
      yaxis: {
        ...axis, title: { text: "emission [MJy/sr]", font: { size: 12 } }, hoverformat: ".3g",
        range: [Math.log10(low), Math.log10(high)], tickvals: yTicks, ticktext: yTicks.map(short),
      },
      legend: {
        orientation: "h", y: -50 / room.drawn, yanchor: "top", font: { size: 12 },
        entrywidth: 0.48, entrywidthmode: "fraction",
      },
    },
  };
}
