// A button that records from the microphone.
import { Trouble } from "./server.js";
import { encodeWav, toPcm } from "./sound.js";

// Loudness is part of an emotion: what a browser does to make calls pleasant would take it away.
const RAW = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const REASONS = {
  NotAllowedError: ["the microphone is blocked", "Allow it in the browser's address bar, then try again."],
  NotFoundError: ["no microphone was found", "Plug one in, or choose a recording."],
  NotReadableError: ["another program is using the microphone", "Close it there, then try again."],
};

export class Recorder {
  #context = null; #stream = null; #blocks = []; #length = 0;

  // `begin(rate)`, `block(samples)` for every block of 16 bits, `end(wav)`, `trouble(error)`; `longest()`: seconds.
  constructor(button, handlers) {
    Object.assign(this, { button, word: button.textContent.trim() }, handlers);
    button.addEventListener("click", () => this.toggle());
  }

  get seconds() {
    return this.#context ? this.#length / this.#context.sampleRate : 0;
  }

  async toggle() {
    this.button.disabled = true; // until the microphone has followed
    try {
      await (this.#context ? this.#stop() : this.#start());
    } catch (error) {
      await this.#release();
      this.trouble(error);
    }
    this.button.disabled = false;
    this.button.setAttribute("aria-pressed", String(this.#context !== null));
    this.button.querySelector("span").textContent = this.#context ? "Stop" : this.word;
  }

  async #start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Trouble("browsers allow the microphone only on secure pages", "Use https, or open the page on the computer that runs the server.");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: RAW });
    } catch ({ name, message }) {
      throw new Trouble(...(REASONS[name] ?? ["the microphone cannot be used", message]));
    }
    this.#context = new AudioContext();
    await this.#context.resume();
    this.begin(this.#context.sampleRate);
    const tap = await this.#tap((samples) => this.#receive(toPcm(samples)));
    this.#context.createMediaStreamSource(this.#stream).connect(tap);
    tap.connect(this.#context.destination); // neither makes a sound; unconnected nodes may not run
  }

  async #tap(receive) {
    if (this.#context.audioWorklet) {
      await this.#context.audioWorklet.addModule("recorder-worklet.js");
      const node = new AudioWorkletNode(this.#context, "tap", { channelCount: 1, channelCountMode: "explicit" });
      node.port.onmessage = ({ data }) => receive(data);
      return node;
    }
    const node = this.#context.createScriptProcessor(4096, 1, 1); // browsers of before 2021
    node.onaudioprocess = ({ inputBuffer }) => receive(inputBuffer.getChannelData(0));
    return node;
  }

  #receive(block) {
    if (!this.#context) return;
    this.#blocks.push(block);
    this.#length += block.length;
    this.block(block);
    if (this.seconds >= this.longest() - 1 && !this.button.disabled) this.toggle();
  }

  // Lets the microphone go; returns what was recorded.
  async #release() {
    const [blocks, rate] = [this.#blocks, this.#context?.sampleRate ?? 0];
    const pcm = new Int16Array(this.#length);
    blocks.reduce((at, block) => { pcm.set(block, at); return at + block.length; }, 0);
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    await this.#context?.close();
    [this.#context, this.#stream, this.#blocks, this.#length] = [null, null, [], 0];
    return encodeWav([pcm], rate);
  }

  async #stop() {
    const any = this.#length > 0;
    const wav = await this.#release();
    if (!any) throw new Trouble("nothing was recorded", "Try again, and speak before you stop.");
    this.end(wav);
  }
}
