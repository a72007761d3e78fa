// The page: from files or the microphone to answers. What it keeps, it keeps until it is closed.
import { Chart } from "./chart.js";
import { $, capital, clock, count, define, html, percent, span, swatch } from "./dom.js";
import { audformat, csv, download, json, labelStudio } from "./export.js";
import { Recorder } from "./microphone.js";
import { Player } from "./player.js";
import { advice, comparison, headline, notes, recordingTable, segmentTable } from "./result.js";
import * as server from "./server.js";
import { decode, pick, sendable } from "./sound.js";

const RETRY = [0, 408, 429, 503, 504]; // troubles that may be over by now; 0: no answer at all
let facts = { limits: { bytes: Infinity, seconds: Infinity }, labels: [] }; // the server's answer to /health
let recordings = []; // {name, blob, sample}, and once recognised {predictions, before, unused} or {error}
let shown = null; // the recording on the page
let clips = []; // other speech of the same person, as it is sent
let refusedClip = null; // what is wrong with one of them
let charts = [];
let working = null; // what aborts the work in hand
let again = null;

const player = new Player($("play"), $("clock"), zoom);

// What is being done, and what went wrong

function status(text, share = null) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("working").hidden = !text;
  $("bar").hidden = share === null;
  $("bar").value = share ?? 0;
  $("share").textContent = share === null ? "" : percent(share);
}

function trouble(error, { name = "", repeat = null } = {}) {
  const known = error instanceof server.Trouble;
  if (!known) console.error(error);
  $("trouble-what").textContent = known ? `${name ? `${name}: ${error.what}` : capital(error.what)}.` : "Something went wrong on this page.";
  $("trouble-mend").textContent = known ? error.mend : String(error?.message ?? error);
  again = known && RETRY.includes(error.status) ? repeat : null;
  $("again").hidden = !again;
  $("trouble").hidden = false;
}

// Does `steps(signal)` unless something else is begun, or it is cancelled; resolves to whether it was done.
async function work(text, steps, offer = {}) {
  working?.abort();
  const mine = new AbortController();
  working = mine;
  $("trouble").hidden = true;
  status(text);
  $("cancel").hidden = false;
  try {
    await steps(mine.signal);
    return true;
  } catch (error) {
    if (!mine.signal.aborted) trouble(error, offer);
    return false;
  } finally {
    if (working === mine) { working = null; status(""); }
  }
}

// Recognising

async function recognise(recording, signal, text) {
  const channel = $("channel").value, each = channel === "each";
  const ask = (given) => server.predict(body, channel, given, { signal, progress: (phase, share) => status(`${phase} ${text}`, share) });
  const body = await sendable(recording.blob, channel, facts.limits);
  const plain = await ask([]);
  const adapted = clips.length && !each ? await ask(clips).catch(unsuited) : null;
  Object.assign(recording, { predictions: adapted ?? plain, before: adapted && plain[0], unused: each && clips.length > 0, error: null });
}

// A clip that cannot be used for calibration leaves the recording as it is.
function unsuited(error) {
  if (!error.what?.startsWith("enrolment clip")) throw error;
  forget();
  refusedClip = error;
  return null;
}

async function recogniseAll(chosen, focus = true) {
  refusedClip = null;
  player.pause();
  recordings = chosen;
  $("result").hidden = true;
  list();
  const [only] = chosen;
  if (chosen.length === 1) {
    const offer = { name: only.name, repeat: () => recogniseAll(chosen) };
    if (await work("Opening…", (signal) => recognise(only, signal, only.name), offer)) await show(only, focus);
  } else await work("Opening…", async (signal) => {
    for (const [index, recording] of chosen.entries()) {
      try {
        await recognise(recording, signal, `${index + 1} of ${chosen.length}: ${recording.name}`);
      } catch (error) {
        if (signal.aborted || !(error instanceof server.Trouble)) throw error;
        Object.assign(recording, { predictions: null, error: `${error.what}. ${error.mend}` });
      }
      list();
    }
  });
  if (refusedClip) trouble(refusedClip);
}

const repeat = () => { if (recordings.length) recogniseAll(recordings, false); };

async function calibrate(open) {
  if (!await work("Calibrating…", async () => { clips = [...clips, ...await Promise.all(open())]; })) return;
  $("calibrated").textContent = `Calibrated with ${count(clips.length, "clip")}.`;
  $("forget").hidden = false;
  repeat();
}

function forget() {
  clips = [];
  $("calibrated").textContent = "";
  $("forget").hidden = true;
}

// Showing

function list() {
  const many = recordings.length > 1;
  $("recordings").hidden = !many;
  if (many) $("recordings-table").replaceChildren(recordingTable(recordings, facts.labels, show));
}

async function show(recording, focus = true) {
  shown = recording;
  const { predictions, before, blob } = recording, many = predictions.length > 1;
  const channels = await decode(await blob.arrayBuffer());
  if (shown !== recording) return; // another one was opened meanwhile
  $("result").hidden = false;
  $("result-title").textContent = headline(predictions);
  $("result-notes").textContent = notes(recording);
  $("advice").textContent = advice(predictions);
  $("compare").replaceChildren(...(before ? [comparison(recording, facts.labels)] : []));
  $("calibrate").hidden = !facts.adapts || many;
  charts = predictions.map((prediction) => new Chart(prediction, channels && pick(channels, prediction.channel), facts.labels, many));
  $("charts").replaceChildren(...charts.map(({ figure }) => figure));
  zoom(0);
  player.load(blob, charts, predictions[0].duration);
  $("segments").replaceChildren(segmentTable(recording, facts.labels, { play: (start, end) => player.play(start, end), corrected: draw }));
  if (focus) $("result").focus({ preventScroll: true }); // a screen reader goes on with the answer
  $("result").scrollIntoView({ block: "nearest" });
}

function draw() {
  for (const chart of charts) chart.draw();
  player.show(true);
}

// Zooms by a factor; 0: to all of it.
function zoom(factor) {
  for (const chart of charts) chart.zoom = Math.max(1, Math.min(chart.deepest, chart.zoom * factor));
  const [{ zoom: now, deepest }] = charts;
  [$("zoom-in").disabled, $("zoom-out").disabled, $("zoom-all").disabled] = [now >= deepest, now <= 1, now <= 1];
  draw();
}

// The microphone

let live = null;

function showLive(steps) {
  const { probabilities, abstained } = steps.at(-1);
  $("live-text").textContent = abstained ? capital(abstained) : "";
  for (const bar of $("live-bars").querySelectorAll("progress")) {
    bar.value = probabilities[bar.dataset.label] ?? 0;
    bar.nextSibling.textContent = percent(bar.value);
  }
}

const longest = () => facts.limits.seconds;
const recorder = new Recorder($("record"), {
  longest,
  begin(rate) {
    working?.abort();
    player.pause(); // else the microphone hears it
    $("trouble").hidden = true;
    $("live").hidden = false;
    $("live-text").textContent = "Listening. The first values appear after three seconds.";
    $("live-bars").replaceChildren(...facts.labels.flatMap((label) => {
      const bar = html("progress", { max: 1, value: 0, "aria-label": label });
      bar.dataset.label = label;
      return [html("span", {}, swatch(label), label), bar, html("span", { class: "fine" }, percent(0))];
    }));
    live = new server.Live(rate, showLive);
  },
  block(samples) {
    live.push(samples);
    $("mic-hint").textContent = clock(this.seconds);
  },
  async end(wav) {
    const recording = { name: "recording.wav", blob: wav }, mine = live;
    recordings = [recording];
    list();
    const answer = await mine.finish();
    $("live").hidden = true;
    $("mic-hint").textContent = "Speak for a few seconds";
    if (!answer || clips.length) return recogniseAll([recording]);
    $("channel").value = "mix";
    await show(Object.assign(recording, { predictions: [answer] }));
  },
  trouble(error) {
    $("live").hidden = true;
    trouble(error);
  },
});
new Recorder($("calibrate-record"), {
  longest, trouble,
  begin: () => player.pause(),
  block() { $("calibrated").textContent = `Recording ${clock(this.seconds)}`; },
  end: (wav) => calibrate(() => [sendable(wav, "mix", facts.limits)]),
});

// What the person does

function choose(files) {
  if (files.length) recogniseAll([...files].map((file) => ({ name: file.name, blob: file })));
}

async function introduce() {
  facts = await server.health();
  define(facts.labels);
  const { limits, model, labels, licence, commercial_use } = facts;
  $("limits").textContent = `; up to ${limits.bytes / 1e6}\u00a0MB and ${span(limits.seconds)}`;
  $("model").textContent = `${model}: ${labels.join(", ")}. Licence of the model: ${licence || "not stated"}. Commercial use? ${commercial_use}`;
  if (!["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)) {
    $("where").textContent = `Your recording is sent to ${location.host}, which reads it in memory, answers and forgets it.`;
  }
  const languages = new Intl.DisplayNames("en", { type: "language" });
  $("samples").append(...(await server.samples()).map(({ file, language, emotion }) =>
    html("button", { type: "button", onclick: () => openSample(file, emotion) }, `${capital(emotion)}, ${languages.of(language)}`)));
}

async function openSample(file, emotion) {
  let blob = null;
  if (await work("Opening…", async () => { blob = await server.file(`samples/${file}`); })) recogniseAll([{ name: file, blob, sample: emotion }]);
}

for (const [id, deed] of Object.entries({
  again: () => again?.(),
  cancel: () => working?.abort(),
  "zoom-in": () => zoom(2),
  "zoom-out": () => zoom(0.5),
  "zoom-all": () => zoom(0),
  forget: () => { forget(); repeat(); },
  "as-json": () => download(json(shown), `${shown.name}.json`, "application/json"),
  "as-csv": () => download(csv([shown], facts.labels), `${shown.name}.csv`, "text/csv"),
  "as-labels": () => download(labelStudio(shown), `${shown.name}.labelstudio.json`, "application/json"),
  "as-audformat": () => download(audformat(shown, facts), `${shown.name}.audformat.zip`, "application/zip"),
  "all-csv": () => download(csv(recordings, facts.labels, true), "recordings.csv", "text/csv"),
  "show-card": () => work("Opening…", async () => { $("card-text").replaceChildren(...await server.card()); $("card").showModal(); }),
})) $(id).addEventListener("click", deed);
$("channel").addEventListener("change", repeat);
$("file").addEventListener("change", ({ target }) => { choose(target.files); target.value = ""; }); // the same again
$("enrol").addEventListener("change", ({ target }) => {
  const files = [...target.files];
  if (files.length) calibrate(() => files.map((file) => sendable(file, "mix", facts.limits)));
  target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // else the browser leaves the page for the file
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files);
  });
}
addEventListener("beforeprint", () => { if (shown) zoom(0); });
new ResizeObserver(draw).observe($("charts"));
introduce().catch((error) => trouble(error, { repeat: () => location.reload() }));
