// What is sent of a recording.
import { span } from "./emotions.js";
import { Trouble } from "./server.js";
import { encodeWav, pick, readable } from "./sound.js";

// The file itself where the server reads it, so that the answer is that of every other way to ask; else (WebM, M4A, or
// too large as it is) what the browser decoded of it, at 16 kHz.
export function sendable({ bytes, channels }, channel, limits) {
  if (bytes.byteLength <= limits.bytes && (readable(bytes) || !channels)) return bytes;
  const most = `Send at most ${span(limits.seconds)} or ${limits.bytes / 1e6} MB at once.`;
  if (!channels) throw new Trouble("this file is larger than the server takes", most, 413);
  if (channels[0].length > limits.seconds * 16000) throw new Trouble("this recording is longer than the server takes", most, 413);
  const wav = encodeWav(channel === "mix" ? [pick(channels, "mix")] : channels);
  if (wav.byteLength > limits.bytes) throw new Trouble("this recording is larger than the server takes", most, 413);
  return wav;
}
