// The page: from a file or the microphone to an answer. What it keeps, it keeps until it is closed.
import { cancel, question, trouble } from "./desk.js";
import { span } from "./emotions.js";
import { Player } from "./player.js";
import { Recorder } from "./recorder.js";
import { charts, csv, download, headline, notes, plain, table } from "./result.js";
import * as server from "./server.js";
import { RATE, decode, encodeWav, pick } from "./sound.js";
import { sendable } from "./upload.js";

const $ = (id) => document.getElementById(id);
const player = new Player($("play"), $("clock"));
let facts = { limits: { bytes: Infinity, seconds: Infinity }, labels: null }; // the server's answer to /health
let clips = []; // other recordings of the same speaker
let shown = null; // the answer on the page

// A recording: its name, its bytes, and its channels at 16 kHz, null where the browser cannot decode it.
async function open(file) {
  const bytes = await file.arrayBuffer();
  return { name: file.name, type: file.type, bytes, channels: bytes.byteLength ? await decode(bytes) : null };
}

async function choose([file, ...others]) {
  if (!file) return;
  let sound = null;
  const text = others.length ? `Opening the first of ${others.length + 1} files…` : "Opening…";
  const done = await question(text, async () => { sound = { ...await open(file), files: others.length + 1 }; });
  if (done) await ask(sound, $("channel").value);
}

async function ask(sound, channel) {
  player.pause();
  $("result").hidden = true;
  await question(`Listening to ${sound.name}…`, async (current) => {
    const predictions = await server.predict(sendable(sound, channel, facts.limits), channel, clips);
    if (current()) show(predictions, sound, channel === "each" && clips.length > 0);
  }, { name: sound.name, repeat: () => ask(sound, channel) });
}

function show(predictions, { name, type, bytes, channels, files }, unused = false) {
  const labels = facts.labels ?? Object.keys(predictions[0].probabilities);
  shown = { predictions, labels, name };
  $("result").hidden = false;
  $("result-title").textContent = headline(predictions);
  $("result-notes").textContent = notes(predictions, name, { unused, files });
  const sounds = predictions.map(({ channel }) => channels && (channels[Number(channel) - 1] ?? pick(channels, channel)));
  const drawn = charts($("charts"), predictions, labels, sounds);
  player.load(channels && new Blob([bytes], { type }), drawn, predictions[0]);
  table($("segments"), predictions, labels, (second) => player.seek(second));
  $("result").focus({ preventScroll: true }); // a screen reader goes on with the answer
  $("result").scrollIntoView({ block: "nearest" });
}

async function enrol(files) {
  if (!files.length) return;
  const opened = [];
  const done = await question("Opening clips…", async () => {
    for (const file of files) opened.push(sendable(await open(file), "mix", facts.limits));
  }, { kind: "voice" });
  if (done) {
    clips = opened;
    $("voice").textContent = `Answers are adapted to the speaker of ${clips.length} clip${clips.length === 1 ? "" : "s"}.`;
  }
  $("forget").hidden = clips.length === 0;
}

function forget() {
  cancel("voice");
  clips = [];
  $("enrol").value = "";
  $("voice").textContent = "Forgotten.";
  $("forget").hidden = true;
  $("enrol").focus();
}

async function introduce() {
  facts = await server.health();
  $("limits").textContent = `; up to ${facts.limits.bytes / 1e6}\u00a0MB, ${span(facts.limits.seconds)}`;
  $("voice-option").hidden = !facts.adapts;
  $("model").textContent = `${facts.model}: ${facts.labels.join(", ")}. Licence of the model: ${facts.licence || "not stated"}`;
  if (!["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)) {
    $("where").textContent = `Your recording is sent to ${location.host}, which reads it in memory, answers and forgets it.`;
  }
}

$("record").addEventListener("click", () => player.pause()); // else the microphone hears it
new Recorder(
  { button: $("record"), canvas: $("level"), hint: $("mic-hint") },
  () => Math.min(facts.limits.seconds, (facts.limits.bytes - 44) / (2 * RATE)), // 16 bits after the header of a WAV
  (samples) => ask({ name: "recording.wav", type: "audio/wav", bytes: encodeWav([samples]), channels: [samples] }, "mix"),
);
$("file").addEventListener("change", async ({ target }) => {
  await choose([...target.files]);
  target.value = ""; // so that the same file can be chosen again
});
$("enrol").addEventListener("change", ({ target }) => enrol([...target.files]));
$("forget").addEventListener("click", forget);
$("as-json").addEventListener("click", () => download(plain(shown), `${shown.name}.json`, "application/json"));
$("as-csv").addEventListener("click", () => download(csv(shown), `${shown.name}.csv`, "text/csv"));
$("show-card").addEventListener("click", async () => {
  try {
    $("card-text").replaceChildren(...await server.card());
    $("card").showModal();
  } catch (error) {
    trouble(error);
  }
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (event.target === $("enrol") && kind !== "dragleave") return; // takes files itself
    event.preventDefault(); // else the browser leaves the page for the file
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose([...event.dataTransfer.files]);
  });
}
new ResizeObserver(() => player.redraw()).observe($("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => player.redraw());
introduce().catch((error) => trouble(error, { repeat: () => location.reload() }));
