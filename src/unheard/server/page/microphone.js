// The microphone as samples at 16 kHz.
import { Trouble } from "./server.js";
import { resample } from "./sound.js";

// Loudness is part of an emotion: what a browser does to make calls pleasant would take it away.
const RAW = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

const REASONS = {
  NotAllowedError: ["the microphone is not allowed", "Allow it in the browser's address bar, then try again."],
  NotFoundError: ["there is no microphone", "Plug one in, or choose a recording."],
  NotReadableError: ["another program holds the microphone", "Close it there, then try again."],
};

export class Recording {
  #context; #stream; #blocks = []; #length = 0;

  // Starts recording; `onBlock(samples)` gets every block, for a level meter.
  static async start(onBlock) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Trouble("browsers lend their microphone to secure pages only", "Use https, or open the page on the computer the server runs on.");
    }
    const recording = new Recording();
    try {
      recording.#stream = await navigator.mediaDevices.getUserMedia({ audio: RAW });
    } catch (error) {
      throw new Trouble(...(REASONS[error.name] ?? ["the microphone cannot be used", error.message]));
    }
    try {
      await recording.#listen(onBlock);
    } catch (error) {
      await recording.#release();
      throw error;
    }
    return recording;
  }

  async #listen(onBlock) {
    this.#context = new AudioContext();
    await this.#context.resume();
    const source = this.#context.createMediaStreamSource(this.#stream);
    const tap = await this.#tap((block) => {
      this.#blocks.push(block);
      this.#length += block.length;
      onBlock(block);
    });
    source.connect(tap);
    tap.connect(this.#context.destination); // neither makes a sound; unconnected nodes may not run
  }

  async #tap(onBlock) {
    const context = this.#context;
    if (context.audioWorklet) {
      await context.audioWorklet.addModule("recorder-worklet.js");
      const node = new AudioWorkletNode(context, "tap", { channelCount: 1, channelCountMode: "explicit" });
      node.port.onmessage = (message) => onBlock(message.data);
      return node;
    }
    const node = context.createScriptProcessor(4096, 1, 1); // browsers of before 2021
    node.onaudioprocess = (event) => onBlock(event.inputBuffer.getChannelData(0).slice());
    return node;
  }

  get rate() {
    return this.#context.sampleRate;
  }

  get seconds() {
    return this.#length / this.rate;
  }

  // Lets the microphone go.
  async #release() {
    for (const track of this.#stream.getTracks()) track.stop();
    await this.#context?.close();
  }

  // Ends it and lets the microphone go; resolves to the samples at 16 kHz.
  async stop() {
    const { rate } = this;
    await this.#release();
    const samples = new Float32Array(this.#length);
    let at = 0;
    for (const block of this.#blocks) {
      samples.set(block, at);
      at += block.length;
    }
    return resample(samples, rate);
  }
}
