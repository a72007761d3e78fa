// The sound, and where in it we are: for the ear, the pointer and the keyboard.
import { clock } from "./emotions.js";

const STEP = 1, LEAP = 5; // seconds an arrow key and a page key move

export class Player {
  #audio = new Audio();
  #charts = []; #duration = 0; #position = 0;

  constructor(button, output) {
    this.button = button;
    this.output = output;
    button.addEventListener("click", () => this.toggle());
    this.#audio.addEventListener("ended", () => this.#state());
    this.#audio.addEventListener("pause", () => this.#state());
    this.#audio.addEventListener("play", () => { this.#state(); this.#follow(); });
  }

  // Takes a new recording: its bytes (null: it cannot be played), its charts and its length.
  load(blob, charts, { duration }) {
    this.#audio.pause();
    if (this.#audio.src) URL.revokeObjectURL(this.#audio.src);
    this.#audio.removeAttribute("src");
    if (blob) this.#audio.src = URL.createObjectURL(blob);
    this.#charts = charts;
    this.#duration = duration;
    this.button.disabled = !blob;
    for (const chart of charts) this.#handle(chart);
    this.#position = 0;
    this.redraw();
  }

  toggle() {
    if (!this.#audio.src) return;
    if (!this.#audio.paused) return this.#audio.pause();
    if (this.#position >= this.#duration - 0.05) this.seek(0);
    const { src } = this.#audio;
    this.#audio.play().catch(({ name }) => {
      if (name === "AbortError") return; // a pause came first
      if (this.#audio.src === src) this.button.disabled = true;
    });
  }

  pause() {
    this.#audio.pause();
  }

  seek(second) {
    this.#position = Math.max(0, Math.min(this.#duration, second));
    if (this.#audio.src) this.#audio.currentTime = this.#position;
    this.#show();
  }

  // The canvases were drawn anew: the playhead goes where it was.
  redraw() {
    for (const chart of this.#charts) chart.draw();
    this.#show();
  }

  #follow() {
    if (this.#audio.paused) return;
    this.#position = this.#audio.currentTime;
    this.#show();
    requestAnimationFrame(() => this.#follow());
  }

  #state() {
    const playing = !this.#audio.paused && !this.#audio.ended;
    this.button.textContent = playing ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", String(playing));
  }

  #show() {
    this.output.textContent = `${clock(this.#position)} / ${clock(this.#duration)}`;
    for (const chart of this.#charts) {
      chart.show(this.#position);
      chart.canvas.setAttribute("aria-valuenow", this.#position.toFixed(1));
      chart.canvas.setAttribute("aria-valuetext", `${this.#position.toFixed(1)} of ${this.#duration.toFixed(1)} seconds: ${chart.labelAt(this.#position) ?? "no answer"}`);
    }
  }

  #handle(chart) {
    const { canvas } = chart;
    canvas.setAttribute("aria-valuemax", this.#duration.toFixed(1));
    canvas.addEventListener("pointerdown", (event) => {
      this.seek(chart.at(event));
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.seek(chart.at(event));
    });
    canvas.addEventListener("keydown", (event) => {
      const to = {
        ArrowRight: this.#position + STEP, ArrowUp: this.#position + STEP,
        ArrowLeft: this.#position - STEP, ArrowDown: this.#position - STEP,
        PageUp: this.#position + LEAP, PageDown: this.#position - LEAP, Home: 0, End: this.#duration,
      }[event.key];
      if (event.key === " ") this.toggle();
      else if (to !== undefined) this.seek(to);
      else return;
      event.preventDefault();
    });
  }
}
