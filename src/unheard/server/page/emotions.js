// How an emotion looks: a colour of the style sheet, with its name always beside it.

const KNOWN = ["angry", "happy", "neutral", "sad", "surprised", "fearful", "disgusted", "calm", "bored", "excited", "frustrated", "other"];

// The colour of a label, for the light or dark page it is shown on; labels of somebody's own take one in turn.
export function colour(label, labels) {
  const name = KNOWN.includes(label) ? label : KNOWN[Math.max(0, labels.indexOf(label)) % KNOWN.length];
  return token(name);
}

// A colour of the style sheet by its name.
export const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Black or white, whichever is easier to read on a colour #rrggbb.
export function inkOn(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#101418" : "#ffffff";
}

export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

// Seconds in words: 15 minutes, 90 seconds.
export const span = (seconds) => (seconds >= 120 ? `${Math.floor(seconds / 60)}\u00a0minutes` : `${seconds}\u00a0seconds`);

// Seconds as m:ss.d
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}
