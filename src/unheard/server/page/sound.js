// Sound in the browser: decoding, one rate, one channel, WAV.

export const RATE = 16000;

// The channels of any file the browser can play, as arrays at 16 kHz; null where it cannot.
export async function decode(bytes) {
  try {
    const context = new OfflineAudioContext(1, 1, RATE); // decoding resamples to the context's rate
    const buffer = await context.decodeAudioData(bytes.slice(0)); // a copy: decoding takes the buffer away
    return Array.from({ length: buffer.numberOfChannels }, (_, index) => buffer.getChannelData(index));
  } catch {
    return null;
  }
}

// Samples at `rate` as samples at 16 kHz.
export async function resample(samples, rate) {
  if (rate === RATE || !samples.length) return samples;
  const context = new OfflineAudioContext(1, Math.ceil((samples.length * RATE) / rate), RATE);
  const source = context.createBufferSource();
  source.buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
  source.buffer.copyToChannel(samples, 0);
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

// One channel of several: `mix` is their mean, `left` and `right` the first and the second.
export function pick(channels, channel) {
  if (channel === "right" && channels.length > 1) return channels[1];
  if (channel !== "mix" || channels.length === 1) return channels[0];
  const mixed = new Float32Array(channels[0].length);
  for (const samples of channels) for (let i = 0; i < mixed.length; i++) mixed[i] += samples[i] / channels.length;
  return mixed;
}

// Channels at 16 kHz as the bytes of a WAV file of 16 bits.
export function encodeWav(channels) {
  const count = channels.length;
  const length = channels[0].length * count * 2;
  const view = new DataView(new ArrayBuffer(44 + length));
  const text = (offset, word) => [...word].forEach((letter, i) => view.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, count, true);
  view.setUint32(24, RATE, true); view.setUint32(28, RATE * count * 2, true);
  view.setUint16(32, count * 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, length, true);
  let at = 44;
  for (let i = 0; i < channels[0].length; i++) {
    for (const samples of channels) {
      const value = Math.max(-1, Math.min(1, samples[i]));
      view.setInt16(at, Math.round(value * 32767), true);
      at += 2;
    }
  }
  return view.buffer;
}

// Whether the server reads this format itself, by its first bytes: WAV, FLAC, OGG, MP3, AIFF, AU.
export function readable(bytes) {
  const head = new Uint8Array(bytes, 0, Math.min(4, bytes.byteLength));
  const word = String.fromCharCode(...head);
  const frame = head[0] === 0xff && (head[1] & 0xe0) === 0xe0 && (head[1] & 0x06) !== 0; // layer 0 is raw AAC
  return ["RIFF", "RF64", "fLaC", "OggS", "FORM", ".snd"].includes(word) || word.startsWith("ID3") || frame;
}

// The lowest and the highest sample of each of `columns` equal parts.
export function peaks(samples, columns) {
  const low = new Float32Array(columns);
  const high = new Float32Array(columns);
  for (let column = 0; column < columns; column++) {
    const start = Math.floor((column * samples.length) / columns);
    const end = Math.max(start + 1, Math.floor(((column + 1) * samples.length) / columns));
    for (let i = start; i < end && i < samples.length; i++) {
      if (samples[i] < low[column]) low[column] = samples[i];
      if (samples[i] > high[column]) high[column] = samples[i];
    }
  }
  return { low, high };
}
