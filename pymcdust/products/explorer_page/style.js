"use strict";
// What all figures share.

const INK = "#1b1f24", BLUE = "#0072b2", GREY = "#8c8c8c", RED = "#b23c00", BAND = "#f0e442";
const FONT = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 13, color: INK };
const PLOT = { displaylogo: false, responsive: false, displayModeBar: false };
