// The page: from a file or the microphone to an answer. What it keeps, it keeps until the page is closed.
import { clock } from "./emotions.js";
import { Recording } from "./microphone.js";
import { Player } from "./player.js";
import { charts, csv, download, headline, notes, table } from "./result.js";
import * as server from "./server.js";
import { decode, encodeWav, pick, readable } from "./sound.js";

const $ = (id) => document.getElementById(id);
const player = new Player($("play"), $("clock"));
let facts = null; // what the server says of itself
let recording = null; // the microphone, while it is on
let voice = null; // what was learnt of a voice
let shown = null; // the answer on the page
let turn = 0; // an answer that comes after another question is not shown

function status(text) { $("status").textContent = text; }

function trouble(error) {
  const { what = "something went wrong in this page", mend = String(error?.message ?? error) } = error instanceof server.Trouble ? error : {};
  $("trouble").hidden = false;
  $("trouble").querySelector("b").textContent = `${what.charAt(0).toUpperCase()}${what.slice(1)}.`;
  $("trouble").querySelector("span").textContent = mend;
  status("");
}

// Runs one question after another: the last one asked is the one shown.
async function question(text, steps) {
  const mine = ++turn;
  $("trouble").hidden = true;
  $("ask").setAttribute("aria-busy", "true");
  status(text);
  try {
    await steps(() => mine === turn);
    if (mine === turn) status("");
  } catch (error) {
    if (mine === turn) trouble(error);
  } finally {
    if (mine === turn) $("ask").removeAttribute("aria-busy");
  }
}

// What is sent: the file itself where the server reads it, so that the answer is that of every other way to ask; else
// (WebM, M4A, or too large as it is) what the browser decoded, at 16 kHz.
function sendable(bytes, channels, channel) {
  const limit = facts?.limits.bytes ?? Infinity;
  if (readable(bytes) && bytes.byteLength <= limit) return bytes;
  if (!channels) {
    if (bytes.byteLength <= limit) return bytes;
    throw new server.Trouble("this file is larger than the server takes", `Send at most ${facts.limits.bytes / 1e6} MB at once.`, 413);
  }
  const wav = encodeWav(channel === "mix" ? [pick(channels, "mix")] : channels.slice(0, 2));
  if (wav.byteLength <= limit) return wav;
  throw new server.Trouble("this recording is longer than the server takes", `Send at most ${clock(facts.limits.seconds)} minutes at once.`, 413);
}

function answer(bytes, channels, name, channel, playable) {
  question("Listening…", async (current) => {
    const predictions = await server.predict(sendable(bytes, channels, channel), channel, voice?.token);
    if (!current()) return;
    show(predictions.map((one) => ({ ...one, labels: facts?.labels ?? Object.keys(one.probabilities) })), channels, name, playable);
  });
}

function show(predictions, channels, name, blob) {
  shown = { predictions, name };
  $("result").hidden = false;
  $("result-title").textContent = headline(predictions);
  $("result-notes").textContent = notes(predictions, name);
  const sounds = channels && predictions.map(({ channel }) => channels[Number(channel) - 1] ?? pick(channels, channel));
  const drawn = charts($("charts"), predictions, sounds);
  player.load(channels && blob, drawn, predictions[0].duration, predictions[0].segments);
  table($("segments").querySelector(".scroll"), predictions, (second) => player.seek(second));
  $("result").focus({ preventScroll: true });
  $("result").scrollIntoView({ block: "nearest" });
}

async function file(chosen) {
  if (!chosen) return;
  await question("Opening…", async (current) => {
    const bytes = await chosen.arrayBuffer();
    const channels = bytes.byteLength ? await decode(bytes) : null;
    if (current()) answer(bytes, channels, chosen.name, $("channel").value, new Blob([bytes], { type: chosen.type }));
  });
}

async function toggleRecording() {
  const button = $("record");
  if (recording) {
    const done = recording;
    recording = null;
    button.setAttribute("aria-pressed", "false");
    button.querySelector("span").textContent = "Record";
    $("level").hidden = true;
    $("mic-hint").textContent = "Speak for a few seconds";
    const samples = await done.stop();
    if (!samples.length) return trouble(new server.Trouble("nothing was recorded", "Try again, and speak before you stop."));
    const wav = encodeWav([samples]);
    return answer(wav, [samples], "recording.wav", "mix", new Blob([wav], { type: "audio/wav" }));
  }
  await question("Asking for the microphone…", async () => {
    recording = await Recording.start(meter);
    button.setAttribute("aria-pressed", "true");
    button.querySelector("span").textContent = "Stop";
    $("level").hidden = false;
  });
  if (recording) status("Recording.");
}

// A bar a block, newest right; ends a recording that reaches the server's limit.
function meter(block) {
  if (!recording) return;
  $("mic-hint").textContent = clock(recording.seconds);
  const canvas = $("level"), context = canvas.getContext("2d");
  const loud = Math.min(1, 3 * Math.sqrt(block.reduce((sum, x) => sum + x * x, 0) / block.length));
  context.drawImage(canvas, -1, 0);
  context.clearRect(canvas.width - 1, 0, 1, canvas.height);
  context.fillStyle = getComputedStyle(canvas).color;
  const height = Math.max(1, loud * canvas.height);
  context.fillRect(canvas.width - 1, (canvas.height - height) / 2, 1, height);
  if (facts && recording.seconds >= facts.limits.seconds - 1) toggleRecording();
}

async function enrol(files) {
  if (!files.length) return;
  await question("Learning the voice…", async (current) => {
    let token = "";
    let learnt = null;
    for (const clip of files) {
      const bytes = await clip.arrayBuffer();
      learnt = await server.learn(sendable(bytes, readable(bytes) ? null : await decode(bytes), "mix"), token);
      token = learnt.token;
    }
    if (!current()) return;
    voice = learnt;
    $("voice").textContent = `Adapting to a voice known from ${learnt.utterances} utterance${learnt.utterances === 1 ? "" : "s"}.`;
    $("forget").hidden = false;
  });
}

function forget() {
  voice = null;
  $("enrol").value = "";
  $("voice").textContent = "Forgotten.";
  $("forget").hidden = true;
  $("enrol").focus();
}

async function introduce() {
  try {
    facts = await server.health();
  } catch (error) {
    return trouble(error);
  }
  $("limits").textContent = `; up to ${Math.round(facts.limits.bytes / 1e6)} MB, ${Math.round(facts.limits.seconds / 60)} minutes`;
  $("voice-option").hidden = !facts.adapts;
  $("model").textContent = `${facts.model}: ${facts.labels.join(", ")}. ${facts.licence}`;
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  $("where").textContent = local
    ? "The program that answers runs on this computer; it reads your recording in memory, answers and forgets it."
    : `Your recording is sent to ${location.host}, which reads it in memory, answers and forgets it.`;
}

$("file").addEventListener("change", (event) => file(event.target.files[0]).then(() => { event.target.value = ""; }));
$("record").addEventListener("click", () => toggleRecording().catch(trouble));
$("enrol").addEventListener("change", (event) => enrol([...event.target.files]));
$("forget").addEventListener("click", forget);
$("as-json").addEventListener("click", () => {
  const { predictions, name } = shown;
  const plain = predictions.map(({ labels, ...rest }) => ({ ...rest, file: name }));
  download(JSON.stringify(plain.length === 1 ? plain[0] : plain, null, 1), `${name}.json`, "application/json");
});
$("as-csv").addEventListener("click", () => download(csv(shown.predictions, shown.name), `${shown.name}.csv`, "text/csv"));
$("show-card").addEventListener("click", async () => {
  try {
    $("card").querySelector("pre").textContent = await server.card();
    $("card").showModal();
  } catch (error) {
    trouble(error);
  }
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") file(event.dataTransfer.files[0]);
  });
}
new ResizeObserver(() => player.redraw()).observe($("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => player.redraw());
introduce();
