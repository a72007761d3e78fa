// How loud the microphone is, the newest at the right.
import { token } from "./emotions.js";

const BAR = 0.05; // seconds
const FLOOR = -60; // dB that are drawn as nothing

export class Meter {
  #bars = []; #squares = 0; #count = 0;

  constructor(canvas) {
    this.canvas = canvas;
  }

  clear() {
    this.#bars = [];
    this.#draw();
  }

  // Adds a block of samples at `rate`.
  push(block, rate) {
    for (const sample of block) this.#squares += sample * sample;
    this.#count += block.length;
    if (this.#count < BAR * rate) return;
    const level = 10 * Math.log10(this.#squares / this.#count + 1e-12);
    this.#bars.push(Math.max(0, Math.min(1, 1 - level / FLOOR)));
    this.#squares = this.#count = 0;
    this.#draw();
  }

  #draw() {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.fillStyle = token("accent");
    this.#bars.splice(0, this.#bars.length - width / 4);
    this.#bars.forEach((level, index) => {
      const bar = Math.max(2, level * height);
      context.fillRect(width - 4 * (this.#bars.length - index), (height - bar) / 2, 3, bar);
    });
  }
}
