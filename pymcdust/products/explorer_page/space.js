"use strict";
// Dust in three dimensions, seen from outside: voxels as points around the Sun.

const MOST_POINTS = 3000;

/** Return the dustiest voxels nearer than a distance [kpc]: the dustiest first. */
function dustiest(fit, state, reach) {
  const found = [];
  for (let row = 0; row < fit.count; row++) {
    const edges = fit.edges(row);
    for (let voxel = 0; voxel + 1 < edges.length; voxel++) {
      const distance = (edges[voxel] + edges[voxel + 1]) / 2;
      const reddening = fit.arrays.reddening(row, voxel);
      if (distance <= reach && reddening > 0) found.push({ row, voxel, distance, reddening });
    }
  }
  found.sort((one, other) => other.reddening - one.reddening);
  return { shown: found.slice(0, MOST_POINTS), total: found.length };
}

/** Return x (to the Galactic centre), y (to l = 90) and z (north) [kpc] of a direction. */
function cartesian(longitude, latitude, distance) {
  const [l, b] = [longitude * RADIAN, latitude * RADIAN];
  return [Math.cos(b) * Math.cos(l), Math.cos(b) * Math.sin(l), Math.sin(b)].map((c) => c * distance);
}

/** Return the distances [kpc] up to which the view can reach: some of the far edges. */
function reaches(fit) {
  const far = [0.25, 0.5, 1, 2, 4, 8, 16];
  const last = Math.max(...Array.from({ length: fit.count }, (_, row) => fit.edges(row).at(-1)));
  return [...far.filter((reach) => reach < 0.9 * last), last];
}

/** Return the line from the Sun through all voxels of a superpixel. */
function sightlineInSpace(fit, row, reach) {
  const far = Math.min(reach, fit.edges(row).at(-1));
  const end = cartesian(...pix2ang(fit.nside, fit.superpixel(row)), far);
  return {
    type: "scatter3d", mode: "lines", x: [0, end[0]], y: [0, end[1]], z: [0, end[2]],
    line: { color: RED, width: 5 }, name: "the chosen sightline", hoverinfo: "name",
  };
}

/** Return the figure of the dustiest voxels; the chosen superpixel is a line from the Sun. */
function spaceFigure(fit, state, reach, compact) {
  const away = compact ? 1.35 : 1; // so that a narrow page holds the whole cube
  const { shown, total } = dustiest(fit, state, reach);
  const largest = shown.length ? shown[0].reddening : 1;
  const scale = fit.scales.temperature;
  const groups = { measured: [], prior: [] };
  for (const point of shown) {
    const known = fit.parameter(state.estimate, "temperature", point.row, point.voxel);
    if (!Number.isFinite(known.value)) continue;
    const grey = known.priorDominated || fit.failed(state.estimate, point.row);
    groups[grey ? "prior" : "measured"].push({ ...point, ...known });
  }
  const colours = scale.colours.map((colour, k) => [k / (scale.colours.length - 1), colour]);
  const trace = (points, marker) => {
    const places = points.map(({ row, distance }) => cartesian(...pix2ang(fit.nside, fit.superpixel(row)), distance));
    return {
      type: "scatter3d", mode: "markers", x: places.map((p) => p[0]), y: places.map((p) => p[1]), z: places.map((p) => p[2]),
      customdata: points.map(({ row, distance }) => [row, distance]), hoverinfo: "text",
      text: points.map((p) => `superpixel ${fit.superpixel(p.row)}, ${short(p.distance)} kpc<br>`
        + `T = ${format(p.value, p.sd)} ± ${format(p.sd, p.sd)} K<br>E(B−V) = ${format(p.reddening)} mag`),
      marker: { size: points.map((p) => 2 + 9 * Math.sqrt(p.reddening / largest)), line: { width: 0 }, ...marker },
    };
  };
  const traces = [
    {
      ...trace(groups.prior, { color: "#a8a8a8", opacity: 0.45 }),
      name: "prior dominates or not converged", showlegend: groups.prior.length > 0,
    },
    {
      ...trace(groups.measured, {
        color: groups.measured.map((p) => p.value), cmin: scale.low, cmax: scale.high,
        colorscale: colours, opacity: 0.85, showscale: groups.measured.length > 0,
        colorbar: { title: { text: "T [K]" }, thickness: 12, len: 0.6, x: 1, xpad: 4 },
      }),
      name: "temperature measured", showlegend: false,
    },
    {
      type: "scatter3d", mode: "markers+text", x: [0], y: [0], z: [0], text: ["Sun"], textposition: "top center",
      marker: { size: 6, color: "#f0b400", line: { color: INK, width: 1 } }, hoverinfo: "text", showlegend: false,
    },
    {
      type: "scatter3d", mode: "lines+text", x: [0.25 * reach, reach], y: [0, 0], z: [0, 0], showlegend: false,
      text: ["", "l = 0°"], textposition: "top center", line: { color: GREY, width: 3 }, hoverinfo: "skip",
    },
    sightlineInSpace(fit, state.row, reach),
  ];
  const axis = (text) => ({
    title: { text }, range: [-reach, reach], backgroundcolor: "white", gridcolor: "#dfe3e8", nticks: 6,
    showspikes: false,
  });
  return {
    data: traces, total, count: shown.length,
    layout: {
      font: FONT, height: 520, margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: "turned",
      paper_bgcolor: "white", legend: { orientation: "h", x: 0, y: 1, itemsizing: "constant" },
      scene: {
        xaxis: axis("x [kpc]"), yaxis: axis("y [kpc]"), zaxis: axis("z [kpc]"),
        aspectmode: "cube", camera: { eye: { x: -1.35 * away, y: -1.45 * away, z: 0.95 * away } },
      },
    },
  };
}
