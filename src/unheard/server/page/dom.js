// Elements, words and numbers.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const html = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const count = (number, word) => `${number}\u00a0${word}${number === 1 ? "" : "s"}`;

// Seconds in words: 15 minutes, 90 seconds.
export const span = (seconds) => (seconds >= 120 ? count(Math.floor(seconds / 60), "minute") : count(seconds, "second"));

// Seconds as m:ss.d
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

// Probabilities as pairs of label and share, the highest first.
export const ranked = (probabilities) => Object.entries(probabilities).sort((a, b) => b[1] - a[1]);

// How an emotion looks: a colour of the style sheet under a pattern of its own, so that it is known without colour too.
const COLOURS = ["angry", "happy", "neutral", "sad", "surprised", "fearful", "disgusted", "calm", "bored", "excited", "frustrated", "other"];
const PATTERNS = ["", "M-1 9L9-1M-1 1L1-1M7 9L9 7", "M2 2h.01M6 6h.01", "M0 2h8M0 6h8", "M2 0v8M6 0v8", "M-1-1L9 9M-1 7L1 9M7-1L9 1", "M0 4h8M4 0v8", "M0 0L8 8M0 8L8 0", "M4 4h.01", "M0 4L4 0L8 4M0 8L4 4L8 8", "M0 4h8", "M4 0v8"];
let known = [];

export const fill = (label) => (label ? `url(#emotion-${known.indexOf(label)})` : "url(#emotion-none)");
export const swatch = (label) => svg("svg", { class: "swatch", width: 14, height: 14, "aria-hidden": "true" }, svg("rect", { width: 14, height: 14, rx: 3, fill: fill(label) }));

// Makes the patterns of a model's labels; labels of somebody's own take a colour in turn.
export function define(labels) {
  known = labels;
  const pattern = (id, name, motif) => {
    const ground = svg("rect", { width: 8, height: 8 });
    ground.style.fill = `var(--${name})`;
    return svg("pattern", { id: `emotion-${id}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" }, ground, svg("path", { d: motif, class: "motif" }));
  };
  const all = labels.map((label, index) => pattern(index, COLOURS.includes(label) ? label : COLOURS[index % COLOURS.length], PATTERNS[index % PATTERNS.length]));
  $("patterns").replaceChildren(...all, pattern("none", "line", ""));
}
