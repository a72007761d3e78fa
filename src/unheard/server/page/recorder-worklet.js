// Runs in the audio thread: hands the first input's first channel to the page, in blocks of about 50 ms.
class Tap extends AudioWorkletProcessor {
  #block = new Float32Array(2048); #filled = 0;

  process([[samples]]) {
    if (!samples) return true;
    this.#block.set(samples, this.#filled);
    this.#filled += samples.length;
    if (this.#filled === this.#block.length) {
      this.port.postMessage(this.#block.slice());
      this.#filled = 0;
    }
    return true;
  }
}
registerProcessor("tap", Tap);
