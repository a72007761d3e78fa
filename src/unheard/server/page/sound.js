// Sound in the browser: decoding, channels, WAV, and what of a recording is sent.
import { span } from "./dom.js";
import { Trouble } from "./server.js";

const RATE = 16000;

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

// One channel of several: `mix` is their mean, else a number from 1, `left` or `right`.
export function pick(channels, channel) {
  if (channel !== "mix" || channels.length === 1) return channels[channel === "right" ? 1 : Number(channel) - 1] ?? channels[0];
  const mixed = new Float32Array(channels[0].length);
  for (const samples of channels) for (let i = 0; i < mixed.length; i++) mixed[i] += samples[i] / channels.length;
  return mixed;
}

export const toPcm = (samples) => Int16Array.from(samples, (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767));

// Channels of 16 bits as the bytes of a WAV file.
export function encodeWav(channels, rate) {
  const width = channels.length, length = channels[0].length * width * 2;
  const head = new DataView(new ArrayBuffer(44));
  const text = (offset, word) => [...word].forEach((letter, i) => head.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF"); text(8, "WAVEfmt "); text(36, "data");
  for (const [at, value] of [[4, 36 + length], [16, 16], [24, rate], [28, rate * width * 2], [40, length]]) head.setUint32(at, value, true);
  for (const [at, value] of [[20, 1], [22, width], [32, width * 2], [34, 16]]) head.setUint16(at, value, true);
  const data = new Int16Array(channels[0].length * width);
  channels.forEach((samples, channel) => samples.forEach((value, i) => { data[i * width + channel] = value; }));
  return new Blob([head, data], { type: "audio/wav" });
}

// Whether the server reads this format itself, by its first bytes: WAV, FLAC, OGG, MP3, AIFF, AU.
function readable(bytes) {
  const head = new Uint8Array(bytes, 0, Math.min(4, bytes.byteLength));
  const word = String.fromCharCode(...head);
  const frame = head[0] === 0xff && (head[1] & 0xe0) === 0xe0 && (head[1] & 0x06) !== 0; // layer 0 is raw AAC
  return ["RIFF", "RF64", "fLaC", "OggS", "FORM", ".snd"].includes(word) || word.startsWith("ID3") || frame;
}

// What is sent of a recording: the file itself where the server reads it, so that the answer is that of every other way
// to ask; else (WebM, M4A, or too large as it is) what the browser decoded of it, at 16 kHz.
export async function sendable(blob, channel, limits) {
  const bytes = await blob.arrayBuffer();
  if (!bytes.byteLength) throw new Trouble("the file is empty", "Choose another recording.", 422);
  const small = bytes.byteLength <= limits.bytes;
  if (small && readable(bytes)) return bytes;
  const channels = await decode(bytes);
  if (small && !channels) return bytes;
  const most = `Send at most ${span(limits.seconds)} or ${limits.bytes / 1e6}\u00a0MB at a time.`;
  if (!channels) throw new Trouble("this file is larger than the server accepts", most, 413);
  if (channels[0].length > limits.seconds * RATE) throw new Trouble("this recording is longer than the server accepts", most, 413);
  const wav = encodeWav((channel === "mix" ? [pick(channels, "mix")] : channels).map(toPcm), RATE);
  if (wav.size > limits.bytes) throw new Trouble("this recording is larger than the server accepts", most, 413);
  return wav.arrayBuffer();
}
