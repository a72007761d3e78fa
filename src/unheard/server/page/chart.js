// One channel on a canvas: a band of emotions, the waveform in their colours, and the probability of each over time.
import { colour, inkOn, percent, token } from "./emotions.js";
import { peaks } from "./sound.js";

const BAND = 26, WAVE = 96, ROW = 34, GAP = 8, AXIS = 20; // pixels
const FONT = "13px system-ui, sans-serif", SMALL = "12px system-ui, sans-serif";

export class Chart {
  #still = document.createElement("canvas"); // everything but the playhead
  #samples; #segments; #steps; #labels; #duration; #overall;

  // `samples` may be null where the browser cannot decode what the server could.
  constructor(canvas, samples, prediction, labels) {
    this.canvas = canvas;
    this.#samples = samples;
    this.#segments = prediction.segments;
    this.#steps = prediction.steps;
    this.#overall = prediction.probabilities;
    this.#duration = prediction.duration;
    this.#labels = labels;
  }

  // The second under a pointer.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - this.#gutter) / (box.width - this.#gutter);
    return Math.max(0, Math.min(1, share)) * this.#duration;
  }

  // The emotion heard at `second`, if any.
  labelAt(second) {
    return (this.#segments.find(({ end }) => end > second) ?? this.#segments.at(-1))?.label;
  }

  get #gutter() {
    return this.canvas.clientWidth < 480 ? 74 : 88;
  }

  get #height() {
    return BAND + (this.#samples ? WAVE + GAP : 0) + GAP + this.#labels.length * (ROW + GAP) + AXIS;
  }

  // Draws all of it anew: after a change of size or colours.
  draw() {
    const scale = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width) return; // not on the page
    this.canvas.style.height = `${this.#height}px`;
    for (const canvas of [this.canvas, this.#still]) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(this.#height * scale);
    }
    const context = this.#still.getContext("2d");
    context.scale(scale, scale);
    context.font = FONT;
    context.textBaseline = "middle";
    const gutter = this.#gutter;
    const x = (second) => gutter + (second / this.#duration) * (width - gutter);
    let top = this.#band(context, x, 0) + GAP;
    if (this.#samples) top = this.#wave(context, x, top, width) + GAP;
    for (const label of this.#labels) top = this.#row(context, x, top, width, label) + GAP;
    this.#axis(context, x, top, width);
  }

  // Shows what is drawn, with the playhead at `second`.
  show(second) {
    if (!this.#still.width) return;
    const context = this.canvas.getContext("2d");
    const scale = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.#still, 0, 0);
    const gutter = this.#gutter * scale;
    const x = gutter + (Math.min(1, second / this.#duration) || 0) * (this.canvas.width - gutter);
    context.fillStyle = token("ink");
    context.fillRect(Math.min(x, this.canvas.width - 2 * scale), 0, 2 * scale, this.canvas.height - AXIS * scale);
  }

  #band(context, x, top) {
    for (const { start, end, label, abstained } of this.#segments) {
      const left = x(start), width = Math.max(1, x(end) - left);
      const fill = label ? colour(label, this.#labels) : token("line");
      context.fillStyle = fill;
      context.fillRect(left, top, Math.max(1, width - 1), BAND);
      context.fillStyle = label ? inkOn(fill) : token("soft");
      const text = [label ?? abstained, label ? label.slice(0, 3) : "–"].find((word) => context.measureText(word).width < width - 8);
      if (text) context.fillText(text, left + (width - context.measureText(text).width) / 2, top + BAND / 2 + 1);
    }
    return top + BAND;
  }

  #wave(context, x, top, width) {
    const first = Math.round(x(0));
    const { low, high } = peaks(this.#samples, Math.max(1, Math.round(width) - first));
    let loudest = 0.02; // silence stays flat
    for (let i = 0; i < low.length; i++) loudest = Math.max(loudest, high[i], -low[i]);
    let at = 0;
    for (let column = 0; column < low.length; column++) {
      const second = (column / low.length) * this.#duration;
      while (at < this.#segments.length - 1 && this.#segments[at].end <= second) at++;
      const label = this.#segments[at]?.label;
      context.fillStyle = label ? colour(label, this.#labels) : token("wave");
      const up = (high[column] / loudest) * (WAVE / 2), down = (low[column] / loudest) * (WAVE / 2);
      context.fillRect(first + column, top + WAVE / 2 - up, 1, Math.max(1, up - down));
    }
    return top + WAVE;
  }

  #row(context, x, top, width, label) {
    const fill = colour(label, this.#labels);
    context.fillStyle = token("ink");
    context.fillText(label, 0, top + ROW / 4, this.#gutter - 8);
    context.fillStyle = token("soft");
    context.font = SMALL;
    if (label in this.#overall) context.fillText(percent(this.#overall[label]), 0, top + (3 * ROW) / 4 + 1);
    context.font = FONT;
    context.fillStyle = token("page");
    context.fillRect(x(0), top, width - x(0), ROW);
    context.fillStyle = fill;
    for (const { start, end, probabilities } of this.#steps) {
      const share = probabilities[label] ?? 0;
      context.fillRect(x(start), top + ROW * (1 - share), x(end) - x(start) + 0.3, ROW * share); // no hairlines between
    }
    return top + ROW;
  }

  #axis(context, x, top, width) {
    const least = 64 / ((width - x(0)) / this.#duration); // seconds that a number needs
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((seconds) => seconds >= least) ?? 1800;
    context.fillStyle = token("soft");
    for (let second = 0; second <= this.#duration; second += step) {
      const text = this.#duration < 60 ? `${second} s` : `${Math.floor(second / 60)}:${String(second % 60).padStart(2, "0")}`;
      context.fillText(text, Math.min(x(second), width - context.measureText(text).width), top + AXIS / 2);
    }
  }
}
