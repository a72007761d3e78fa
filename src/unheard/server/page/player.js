// The sound, and where in it we are: for the ear, the pointer and the keyboard.
import { clock } from "./dom.js";

const STEP = 1, LEAP = 5; // seconds that an arrow key and a page key move

export class Player {
  #audio = new Audio(); #charts = []; #duration = 0; #position = 0; #until = Infinity;

  // `zoom(factor)` is asked for by the keys + and -.
  constructor(button, output, zoom) {
    Object.assign(this, { button, output, zoom });
    button.addEventListener("click", () => this.toggle());
    for (const kind of ["ended", "pause", "play"]) this.#audio.addEventListener(kind, () => this.#state());
    this.#audio.addEventListener("play", () => this.#follow());
  }

  // Takes a new recording: its bytes, its charts and its length.
  load(blob, charts, duration) {
    this.#audio.pause();
    if (this.#audio.src) URL.revokeObjectURL(this.#audio.src);
    this.#audio.src = URL.createObjectURL(blob);
    this.button.disabled = false;
    [this.#charts, this.#duration] = [charts, duration];
    for (const chart of charts) this.#handle(chart);
    this.seek(0);
  }

  // Plays from one second to another.
  play(from, to = Infinity) {
    this.seek(from);
    this.#until = to;
    const { src } = this.#audio;
    this.#audio.play().catch(({ name }) => { // AbortError: a pause came first
      if (name !== "AbortError" && this.#audio.src === src) this.button.disabled = true;
    });
  }

  toggle() {
    if (!this.#audio.paused) this.#audio.pause();
    else this.play(this.#position >= this.#duration - 0.05 ? 0 : this.#position);
  }

  pause() {
    this.#audio.pause();
  }

  seek(second) {
    this.#position = Math.max(0, Math.min(this.#duration, second));
    this.#until = Infinity;
    if (this.#audio.src) this.#audio.currentTime = this.#position;
    this.show(true);
  }

  show(follow) {
    this.output.textContent = `${clock(this.#position)} / ${clock(this.#duration)}`;
    for (const chart of this.#charts) chart.move(this.#position, follow);
  }

  #follow() {
    if (this.#audio.paused) return;
    this.#position = Math.min(this.#audio.currentTime, this.#until);
    if (this.#position >= this.#until) this.#audio.pause();
    this.show(true);
    requestAnimationFrame(() => this.#follow());
  }

  #state() {
    const playing = !this.#audio.paused && !this.#audio.ended;
    this.button.textContent = playing ? "Pause" : "Play";
    this.button.setAttribute("aria-pressed", String(playing));
  }

  #handle(chart) {
    const segment = (second) => { const { start, end } = chart.segmentAt(second); this.play(start, end); };
    chart.track.addEventListener("click", (event) => (chart.onBand(event) ? segment : (second) => this.seek(second))(chart.at(event)));
    chart.track.addEventListener("keydown", (event) => {
      const to = {
        ArrowRight: this.#position + STEP, ArrowUp: this.#position + STEP, ArrowLeft: this.#position - STEP, ArrowDown: this.#position - STEP,
        PageUp: this.#position + LEAP, PageDown: this.#position - LEAP, Home: 0, End: this.#duration,
      }[event.key];
      if (event.key === " ") this.toggle();
      else if (event.key === "Enter") segment(this.#position);
      else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 2 : 0.5);
      else if (to !== undefined) this.seek(to);
      else return;
      event.preventDefault();
    });
  }
}
