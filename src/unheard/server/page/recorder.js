// The button that records.
import { question, status, trouble } from "./desk.js";
import { clock } from "./emotions.js";
import { Meter } from "./meter.js";
import { Recording } from "./microphone.js";
import { Trouble } from "./server.js";

const HINT = "Speak for a few seconds";

export class Recorder {
  #recording = null;

  // `done(samples)` gets what was recorded, at 16 kHz; `longest()` says how many seconds are taken.
  constructor({ button, canvas, hint }, longest, done) {
    Object.assign(this, { button, canvas, hint, longest, done });
    this.meter = new Meter(canvas);
    button.addEventListener("click", () => this.toggle());
  }

  async toggle() {
    this.button.disabled = true; // until the microphone has followed
    try {
      await (this.#recording ? this.#stop() : this.#start());
    } catch (error) {
      trouble(error);
    } finally {
      this.button.disabled = false;
      this.button.focus();
    }
  }

  async #start() {
    this.meter.clear();
    const begun = await question("Asking for the microphone…", async () => {
      this.#recording = await Recording.start((block) => this.#hear(block));
    });
    if (!this.#recording) return;
    this.#show(true);
    if (begun) status("Recording. Press Stop when you are done.");
  }

  async #stop() {
    const recording = this.#recording;
    this.#recording = null;
    this.#show(false);
    status("");
    const samples = await recording.stop();
    if (!samples.length) throw new Trouble("nothing was recorded", "Try again, and speak before you stop.", 422);
    this.done(samples);
  }

  #hear(block) {
    if (!this.#recording) return;
    this.meter.push(block, this.#recording.rate);
    this.hint.textContent = clock(this.#recording.seconds);
    if (this.#recording.seconds >= this.longest() - 1 && !this.button.disabled) this.toggle();
  }

  #show(on) {
    this.button.setAttribute("aria-pressed", String(on));
    this.button.querySelector("span").textContent = on ? "Stop" : "Record";
    this.canvas.hidden = !on;
    this.hint.textContent = HINT;
  }
}
