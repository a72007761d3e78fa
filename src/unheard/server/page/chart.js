// One channel as a timeline: its segments, its waveform, and the probability of each emotion over time.
import { capital, clock, fill, html, percent, ranked, svg } from "./dom.js";

const BAND = 30, WAVE = 56, ROW = 48, GAP = 10, AXIS = 20, GUTTER = 118; // pixels
const NARROWEST = 5; // seconds in view at the highest zoom
const COLUMNS = 8000; // of a waveform, at most

export class Chart {
  zoom = 1;

  // `samples` may be null where the browser cannot decode what the server could.
  constructor(prediction, samples, labels, named) {
    Object.assign(this, { prediction, samples, labels: prediction.label ? labels : [], duration: prediction.duration });
    this.track = html("div", {
      class: "track", role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": this.duration.toFixed(1),
      "aria-label": `Position in the recording${named ? `, channel ${prediction.channel}` : ""}`,
    });
    this.scroller = html("div", { class: "scroller" }, this.track);
    this.readout = html("p", { class: "fine readout", "aria-hidden": "true" });
    this.figure = html("figure", {}, named ? html("figcaption", {}, capital(prediction.channel)) : null,
      html("div", { class: "chart" }, this.#gutter(), this.scroller), this.readout);
    this.track.addEventListener("pointermove", (event) => this.#hover(this.at(event)));
    this.track.addEventListener("pointerleave", () => this.#hover(null));
  }

  get #rows() {
    return BAND + GAP + (this.samples ? WAVE + GAP : 0);
  }

  get #height() {
    return this.#rows + this.labels.length * (ROW + GAP) + AXIS;
  }

  get deepest() {
    return Math.max(1, this.duration / NARROWEST);
  }

  // The second under a pointer.
  at({ clientX }) {
    const { left, width } = this.track.getBoundingClientRect();
    return Math.max(0, Math.min(1, (clientX - left) / width)) * this.duration;
  }

  // Whether a pointer is on the segments.
  onBand({ clientY }) {
    return clientY - this.track.getBoundingClientRect().top <= BAND;
  }

  segmentAt(second) {
    const { segments } = this.prediction;
    return segments.find(({ end }) => end > second) ?? segments.at(-1);
  }

  // Names, totals and the scale, which stay in view.
  #gutter() {
    const { probabilities } = this.prediction, rows = this.#rows;
    const parts = this.labels.flatMap((label, index) => {
      const top = rows + index * (ROW + GAP);
      const scale = ["100", "50", "0\u00a0%"].map((text, line) => svg("text", { x: GUTTER - 6, y: top + [5, ROW / 2, ROW - 3][line], class: "small end" }, text));
      return [
        svg("rect", { x: 0, y: top + 5, width: 14, height: 14, rx: 3, fill: fill(label) }),
        svg("text", { x: 20, y: top + 12 }, label),
        svg("text", { x: 20, y: top + 32, class: "small" }, label in probabilities ? percent(probabilities[label]) : "–"),
        ...scale,
      ];
    });
    return svg("svg", { class: "gutter", width: GUTTER, height: this.#height, "aria-hidden": "true" }, ...parts);
  }

  // Draws all of it anew: after a change of width, zoom or labels.
  draw() {
    const width = Math.round(this.scroller.clientWidth * this.zoom), height = this.#height;
    if (!width) return; // not on the page
    this.x = (second) => (second / this.duration) * width;
    const lines = (kind) => svg("line", { class: kind, y1: 0, y2: height - AXIS });
    this.head = lines("playhead");
    this.pointer = lines("pointer");
    const rows = this.labels.flatMap((label, index) => this.#row(label, this.#rows + index * (ROW + GAP), width));
    this.track.replaceChildren(svg("svg", { width, height, "aria-hidden": "true" }, ...this.#band(), ...this.#wave(width), ...rows, ...this.#axis(width, height), this.pointer, this.head));
    this.#hover(null);
  }

  // Shows the playhead at `second`, and scrolls to it where `follow`.
  move(second, follow) {
    if (!this.x) return;
    const x = this.x(second), { scrollLeft, clientWidth } = this.scroller;
    for (const end of ["x1", "x2"]) this.head.setAttribute(end, Math.max(1, Math.min(x, this.x(this.duration) - 1)));
    if (follow && (x < scrollLeft || x > scrollLeft + clientWidth)) this.scroller.scrollLeft = x - clientWidth / 4;
    const { label, corrected } = this.segmentAt(second);
    this.track.setAttribute("aria-valuenow", second.toFixed(1));
    this.track.setAttribute("aria-valuetext", `${second.toFixed(1)} of ${this.duration.toFixed(1)} seconds: ${corrected ?? label ?? "no answer"}`);
  }

  #hover(second) {
    this.pointer?.classList.toggle("unseen", second === null);
    if (second === null) {
      this.readout.textContent = "Point at the timeline to read values. Click a segment to hear it.";
      return;
    }
    for (const end of ["x1", "x2"]) this.pointer.setAttribute(end, this.x(second));
    const step = this.prediction.steps.find(({ end }) => end > second) ?? this.prediction.steps.at(-1);
    const values = ranked(step.probabilities).map(([label, share]) => `${label} ${percent(share)}`).join(", ");
    this.readout.textContent = `${clock(step.start)} to ${clock(step.end)}: ${values || step.abstained}`;
  }

  #band() {
    return this.prediction.segments.flatMap(({ start, end, label, abstained, corrected }) => {
      const left = this.x(start), width = Math.max(1, this.x(end) - left - 1);
      const shown = corrected ?? label, words = shown ? [shown, shown.slice(0, 3)] : [abstained, "–"];
      const text = [corrected ? `${shown} (corrected)` : words[0], ...words].find((word) => 7.5 * word.length < width - 12);
      return [
        svg("rect", { x: left, y: 0, width, height: BAND, rx: 2, class: "segment", fill: fill(shown) }),
        text ? svg("text", { x: left + width / 2, y: BAND / 2 + 1, class: "middle halo" }, text) : null,
      ];
    }).filter(Boolean);
  }

  #wave(width) {
    if (!this.samples) return [];
    const columns = Math.min(width, COLUMNS), middle = BAND + GAP + WAVE / 2, bars = [];
    let loudest = 0.02; // silence stays flat
    for (let column = 0; column < columns; column++) {
      let low = 0, high = 0;
      const end = Math.ceil(((column + 1) * this.samples.length) / columns);
      for (let i = Math.floor((column * this.samples.length) / columns); i < end; i++) {
        if (this.samples[i] < low) low = this.samples[i];
        else if (this.samples[i] > high) high = this.samples[i];
      }
      bars.push([low, high]);
      loudest = Math.max(loudest, high, -low);
    }
    const scale = WAVE / 2 / loudest;
    const path = bars.map(([low, high], column) => `M${((column + 0.5) * width) / columns} ${(middle - high * scale - 0.5).toFixed(1)}V${(middle - low * scale + 0.5).toFixed(1)}`).join("");
    return [svg("path", { class: "wave", d: path, "stroke-width": width / columns })];
  }

  #row(label, top, width) {
    const base = top + ROW;
    const grid = [0, 0.5, 1].map((share) => svg("line", { class: "grid", x1: 0, x2: width, y1: base - share * ROW, y2: base - share * ROW }));
    const area = this.prediction.steps.map(({ start, end, probabilities }) => `M${this.x(start)} ${base}V${base - (probabilities[label] ?? 0) * ROW}H${this.x(end)}V${base}Z`).join("");
    return [svg("rect", { class: "ground", x: 0, y: top, width, height: ROW }), svg("path", { class: "area", fill: fill(label), d: area }), ...grid];
  }

  #axis(width, height) {
    const least = (64 * this.duration) / width, texts = []; // seconds that a number needs
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((seconds) => seconds >= least) ?? 1800;
    for (let second = 0; second <= this.duration && this.x(second) < width - 20; second += step) {
      const text = this.duration < 60 ? `${second}\u00a0s` : clock(second).slice(0, step < 1 ? undefined : -2);
      texts.push(svg("text", { x: this.x(second), y: height - AXIS / 2, class: second ? "small middle" : "small" }, text));
    }
    return texts;
  }
}
