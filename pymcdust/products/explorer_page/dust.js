"use strict";
// The fit: its arrays, the quantities that a map can show, and the physics of its spectrum.

const ARRAY_TYPES = { f4: Float32Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array };

/** Return the numbers of an array of the page; those with a `step` are steps of the logarithm. */
function decoded(array) {
  const bytes = Uint8Array.from(atob(array.data), (letter) => letter.charCodeAt(0));
  const codes = new ARRAY_TYPES[array.type](bytes.buffer);
  if (array.step === undefined) return codes;
  const { least, step } = array;
  return Float32Array.from(codes, (code) => (code > 1 ? Math.exp(least + step * (code - 2)) : code ? 0 : NaN));
}

/** Turn an array of the page into a function of (superpixel's row, voxel, band or edge). */
function reader(array) {
  const values = decoded(array);
  let step = 1, ofRow = 0, ofOther = 0;
  for (let axis = array.dims.length - 1; axis >= 0; axis--) {
    if (array.dims[axis] === "superpixel") ofRow = step;
    else ofOther = step;
    step *= array.shape[axis];
  }
  const read = (row = 0, other = 0) => values[row * ofRow + other * ofOther];
  read.dims = array.dims;
  read.shape = array.shape;
  return read;
}

function readers(arrays) {
  return Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, reader(array)]));
}

/** What was inferred and observed, and where. */
class Fit {
  constructor(data) {
    Object.assign(this, data);
    this.arrays = readers(data.arrays);
    this.estimates = Object.fromEntries(
      Object.entries(data.estimates).map(([name, arrays]) => [name, readers(arrays)]));
    this.count = data.arrays.superpixel.shape[0];
    this.rows = new Map();
    for (let row = 0; row < this.count; row++) this.rows.set(this.arrays.superpixel(row), row);
    this.sharedEdges = !this.arrays.edge.dims.includes("superpixel");
  }

  superpixel(row) { return this.arrays.superpixel(row); }

  /** Return the row of a superpixel, -1 where the fit has none. */
  row(superpixel) { return this.rows.has(superpixel) ? this.rows.get(superpixel) : -1; }

  edges(row) {
    return Array.from({ length: this.arrays.n_voxel(row) + 1 }, (_, k) => this.arrays.edge(row, k));
  }

  /** Return the voxel of a superpixel that holds a distance [kpc], -1 beyond the last. */
  voxelAt(row, distance) {
    const count = this.arrays.n_voxel(row);
    for (let voxel = 0; voxel < count; voxel++) {
      if (distance < this.arrays.edge(row, voxel + 1)) return voxel;
    }
    return -1;
  }

  /** Tell whether an estimate is of a fit that stopped short; a posterior needs no maximum. */
  failed(estimate, row) { return estimate === "fit" && !this.arrays.converged(row); }

  cumulative(row, voxel) {
    let sum = 0;
    for (let k = 0; k <= voxel; k++) sum += this.arrays.reddening(row, k);
    return sum;
  }

  /** Return what is known of a parameter: value, standard deviation, range, and whether it counts. */
  parameter(estimate, name, row, voxel) {
    const arrays = this.estimates[estimate];
    const known = (key) => (arrays[`${name}_${key}`] ? arrays[`${name}_${key}`](row, voxel) : NaN);
    const value = arrays[name](row, voxel), sd = known("sd");
    return {
      value, sd,
      low: value - (arrays[`${name}_down`] ? known("down") : sd),
      high: value + (arrays[`${name}_up`] ? known("up") : sd),
      priorDominated: known("prior_dominated") === 1,
    };
  }

  /** Return the offset [MJy/sr] of each band that the fit found in a superpixel. */
  offsets(row) { return this.frequency.map((_, band) => this.estimates.fit.offset(row, band)); }

  /** Return the emission [MJy/sr] of a voxel, or of the sightline (voxel null), in a band with its offset. */
  emission(row, frequency, voxel = null, band = null) {
    const arrays = this.estimates.fit;
    const glow = (k) => this.arrays.reddening(row, k) * emissivity(
      this.physics, frequency, arrays.temperature(row, k), arrays.beta(row, k), arrays.rho(row, k));
    if (voxel !== null) return glow(voxel);
    let sum = band === null ? 0 : arrays.offset(row, band);
    for (let k = 0; k < this.arrays.n_voxel(row); k++) sum += glow(k);
    return sum;
  }

  flagsInWords(row) {
    const flag = this.arrays.flag(row);
    return Object.entries(this.flags).filter(([, mask]) => flag & mask)
      .map(([name]) => name.replaceAll("_", " "));
  }
}

/** Return rho (nu / 353 GHz)^beta B_nu(T) [MJy/sr/mag], as pymcdust.physics.emission does. */
function emissivity(physics, frequency, temperature, beta, rho) {
  const photon = (physics.planck_over_boltzmann * frequency) / temperature;
  const planck = (physics.radiance_scale * frequency ** 3) / Math.expm1(photon);
  return rho * (frequency / physics.reference_frequency) ** beta * planck;
}

const SYMBOLS = {
  temperature: ["Temperature", "T", "K", 1],
  beta: ["Emissivity index β", "β", "", 1],
  rho: ["Conversion factor ρ", "ρ", "10⁻⁴ mag⁻¹", 1e4],
};

/**
 * List what the map can show. A quantity has an `id`, `group`, `label`, `unit`, whether it is
 * `perVoxel`, the name of its `scale` (null: yes or no), the `parameter` whose prior may dominate
 * it (null: none), and `get(row, voxel)`.
 */
function quantities(fit, estimate) {
  const list = [];
  const arrays = fit.estimates[estimate];
  const free = Object.keys(SYMBOLS).filter((name) => arrays[`${name}_sd`]);
  for (const [name, [label, , unit, factor]] of Object.entries(SYMBOLS)) {
    const perVoxel = arrays[name].dims.includes("voxel");
    list.push({
      id: name, group: "Dust", label, unit, perVoxel, scale: name, factor,
      parameter: name, get: (row, voxel) => factor * arrays[name](row, voxel),
    });
    if (!arrays[`${name}_sd`]) continue;
    list.push({
      id: `${name}_sd`, group: "Standard deviation", label: `${label}: standard deviation`, unit,
      perVoxel, scale: `${name}_sd`, factor, parameter: null,
      get: (row, voxel) => factor * arrays[`${name}_sd`](row, voxel),
    });
  }
  list.push(
    {
      id: "reddening", group: "Reddening", label: "Reddening of the voxel", unit: "mag",
      perVoxel: true, scale: "reddening", factor: 1, parameter: null,
      get: (row, voxel) => fit.arrays.reddening(row, voxel),
    },
    {
      id: "cumulative", group: "Reddening", label: "Reddening up to the voxel’s far edge",
      unit: "mag", perVoxel: true, scale: "cumulative", factor: 1, parameter: null,
      get: (row, voxel) => fit.cumulative(row, voxel),
    },
    {
      id: "chi2", group: "Quality", label: "χ² per datum", unit: "", perVoxel: false,
      scale: "chi2", factor: 1, parameter: null, get: (row) => fit.arrays.chi2(row),
    });
  for (const name of free) {
    list.push({
      id: `${name}_prior`, group: "Quality", label: `Prior dominates ${SYMBOLS[name][1]}`, unit: "",
      perVoxel: arrays[name].dims.includes("voxel"), scale: null, factor: 1, parameter: null,
      get: (row, voxel) => arrays[`${name}_prior_dominated`](row, voxel),
    });
  }
  for (const [name, mask] of Object.entries(fit.flags)) {
    list.push({
      id: `flag_${name}`, group: "Flags", label: `Flag: ${name.replaceAll("_", " ")}`, unit: "",
      perVoxel: false, scale: null, factor: 1, parameter: null,
      get: (row) => (fit.arrays.flag(row) & mask ? 1 : 0),
    });
  }
  // The order within a group stays; the groups follow one another.
  const groups = [...new Set(["Dust", "Reddening", "Standard deviation", ...list.map((q) => q.group)])];
  return list.sort((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group));
}

/** Write a number with as many digits as its error leaves meaning to. */
function format(value, error = NaN) {
  if (!Number.isFinite(value)) return "–";
  // Two digits of an error that begins with 1 or 2, one of others; without error three digits.
  const size = Number.isFinite(error) && error > 0 ? error / 2.95 : Math.abs(value) / 100;
  if (size === 0) return "0";
  if (size < 1e-6) return value.toExponential(1).replaceAll("-", "−");
  const digits = Math.max(0, Math.min(8, -Math.floor(Math.log10(size))));
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

/** Write a distance or an edge [kpc] shortly. */
function short(value) { return String(Number(value.toPrecision(3))); }
