"use strict";
// HEALPix in NESTED order (Gorski et al. 2005), and the Mollweide projection of the sky.

const RADIAN = Math.PI / 180;

// Row and column, in units of a face, of the southernmost corner of each of the 12 faces.
const FACE_ROW = [2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4];
const FACE_COLUMN = [1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7];

/** Return the bits of a number below 2^16, a zero between each two of them. */
function spread(bits) {
  bits = (bits | (bits << 8)) & 0x00ff00ff;
  bits = (bits | (bits << 4)) & 0x0f0f0f0f;
  bits = (bits | (bits << 2)) & 0x33333333;
  return (bits | (bits << 1)) & 0x55555555;
}

/** Return every other bit of a number, the inverse of spread. */
function gather(bits) {
  bits &= 0x55555555;
  bits = (bits | (bits >>> 1)) & 0x33333333;
  bits = (bits | (bits >>> 2)) & 0x0f0f0f0f;
  bits = (bits | (bits >>> 4)) & 0x00ff00ff;
  return (bits | (bits >>> 8)) & 0x0000ffff;
}

/** Return the NESTED pixel that holds a direction [deg]. */
function ang2pix(nside, longitude, latitude) {
  const z = Math.sin(latitude * RADIAN);
  const height = Math.abs(z);
  const turn = ((((longitude / 90) % 4) + 4) % 4) % 4; // quarters of a circle, 0 <= turn < 4
  let face, x, y;
  if (height <= 2 / 3) {
    const rising = nside * (0.5 + turn), steep = nside * 0.75 * z;
    const falling = Math.floor(rising - steep), climbing = Math.floor(rising + steep);
    const below = Math.floor(falling / nside), above = Math.floor(climbing / nside);
    face = below === above ? below | 4 : below < above ? below : above + 8;
    x = climbing % nside;
    y = nside - (falling % nside) - 1;
  } else {
    const quarter = Math.floor(turn), part = turn - quarter;
    const rows = nside * Math.sqrt(3 * (1 - height));
    const right = Math.min(Math.floor(part * rows), nside - 1);
    const left = Math.min(Math.floor((1 - part) * rows), nside - 1);
    face = z >= 0 ? quarter : quarter + 8;
    x = z >= 0 ? nside - left - 1 : right;
    y = z >= 0 ? nside - right - 1 : left;
  }
  return face * nside * nside + spread(x) + 2 * spread(y);
}

/** Return longitude and latitude [deg] of a place on a face, whose sides go from 0 to 1. */
function face2ang(face, x, y) {
  const row = FACE_ROW[face] - x - y;
  const cap = row < 1 ? row : row > 3 ? 4 - row : 1;
  // Within a polar cap by half the angle to the pole: z alone has no digits left there.
  const latitude = cap === 1
    ? Math.asin(((2 - row) * 2) / 3) / RADIAN
    : (row < 1 ? 1 : -1) * (90 - (2 * Math.asin(cap / Math.sqrt(6))) / RADIAN);
  const column = (((FACE_COLUMN[face] * cap + x - y) % 8) + 8) % 8;
  return [cap < 1e-12 ? 0 : ((45 * column) / cap) % 360, latitude];
}

/** Return face, and place on it, of a pixel's lower corner, in units of pixels. */
function pixelPlace(nside, pixel) {
  const area = nside * nside, face = Math.floor(pixel / area), within = pixel - face * area;
  return [face, gather(within), gather(within >>> 1)];
}

/** Return longitude and latitude [deg] of the centre of a NESTED pixel. */
function pix2ang(nside, pixel) {
  const [face, x, y] = pixelPlace(nside, pixel);
  return face2ang(face, (x + 0.5) / nside, (y + 0.5) / nside);
}

/** Return directions [deg] around a NESTED pixel, closed, `steps` on each side. */
function pixelOutline(nside, pixel, steps) {
  const [face, x, y] = pixelPlace(nside, pixel);
  const corners = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]];
  const outline = [];
  for (let side = 0; side < 4; side++) {
    for (let step = 0; step < steps; step++) {
      const [dx, dy] = [0, 1].map(
        (axis) => corners[side][axis] + ((corners[side + 1][axis] - corners[side][axis]) * step) / steps);
      outline.push(face2ang(face, (x + dx) / nside, (y + dy) / nside));
    }
  }
  outline.push(outline[0]);
  return outline;
}

/** Return longitude and latitude [deg] of a place on the map, null outside of the sky. */
function fromMollweide(x, y) {
  if ((x * x) / 4 + y * y >= 1) return null;
  const angle = Math.asin(y);
  const sine = (2 * angle + Math.sin(2 * angle)) / Math.PI;
  const longitude = (-90 * x) / Math.cos(angle);
  return [(longitude + 360) % 360, Math.asin(Math.max(-1, Math.min(1, sine))) / RADIAN];
}

/** Return where a direction [deg] lies on the map: x from -2 to 2, longitude growing leftwards. */
function toMollweide(longitude, latitude) {
  const goal = Math.PI * Math.sin(latitude * RADIAN);
  // Newton's method converges slowly towards the poles, where bisection does not.
  let low = -Math.PI / 2, high = Math.PI / 2;
  for (let step = 0; step < 48; step++) {
    const middle = (low + high) / 2;
    if (2 * middle + Math.sin(2 * middle) < goal) low = middle;
    else high = middle;
  }
  const angle = (low + high) / 2;
  const wrapped = ((((longitude + 180) % 360) + 360) % 360) - 180;
  return [(-wrapped / 90) * Math.cos(angle), Math.sin(angle)];
}
