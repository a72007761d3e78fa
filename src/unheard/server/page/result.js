// Answers in words and tables.
import { capital, clock, count, html, percent, ranked, swatch } from "./dom.js";

const UNSURE = 0.5; // probability below which the first emotion is no headline
const values = (pairs) => pairs.map(([label, share]) => `${label} ${percent(share)}`).join(", ");

const clear = ({ label, mixed, probabilities }) => label && !mixed && probabilities[label] >= UNSURE;

// One channel in a few words: “happy (72 %)”, or why there is no single emotion.
export function verdict(prediction) {
  const { label, mixed, summary, probabilities, abstained } = prediction;
  if (!label) return abstained === "silence" ? "silence" : "no speech recognised";
  if (clear(prediction)) return `${label} (${percent(probabilities[label])})`;
  if (mixed) return `mixed: ${values(Object.entries(summary).map(([name, { share }]) => [name, share]))} of the time`;
  return `uncertain: ${values(ranked(probabilities).slice(0, 2))}`;
}

export const headline = (predictions) =>
  predictions.length === 1 ? capital(verdict(predictions[0])) : predictions.map((one) => `${capital(one.channel)}: ${verdict(one)}`).join(" · ");

// What to make of an answer that is none, or not a clear one; empty for others.
export function advice([first, ...others]) {
  const { label, abstained } = first;
  if (others.length) return "";
  if (abstained === "silence") return "The recording is silent. Check that the microphone is on and the right channel is chosen.";
  if (!label) return `${capital(abstained)}. ${abstained.startsWith("too") ? "Record a whole sentence." : "There is an answer only where a voice is heard: move closer to the microphone, or choose another channel."}`;
  return clear(first) ? "" : "No single emotion fits the whole recording: look at the timeline.";
}

// What the headline leaves out: the runners-up, how much was speech, whose voice, and what makes it less certain.
export function notes({ name, predictions, sample, unused }) {
  const [first] = predictions, one = predictions.length === 1;
  const speech = one ? `${clock(first.speech)} of speech` : `speech: ${predictions.map(({ channel, speech }) => `${channel} ${clock(speech)}`).join(", ")}`;
  return [
    name, `${clock(first.duration)} long, ${speech}`,
    one && first.label && `${clear(first) ? "then" : "on average"} ${values(ranked(first.probabilities).slice(clear(first) ? 1 : 0))}`,
    sample && `an actor was asked to sound ${sample}`,
    first.profile && `calibrated with ${count(first.profile.utterances, "utterance")} of this speaker`,
    first.remark,
    unused && "every channel has its own speaker, so the calibration was not used",
  ].filter(Boolean).join(" · ");
}

// The probabilities before and after calibration, side by side.
export function comparison({ before, predictions: [after] }, labels) {
  const cell = ({ label: first, probabilities }, label) => {
    const share = probabilities[label] ?? 0;
    const bar = html("div", { class: "bar" });
    Object.assign(bar.style, { width: `${100 * share}%` });
    return html("td", { class: first === label ? "first" : null }, percent(share), html("div", { class: "rail" }, bar));
  };
  return html("table", { class: "compare" }, html("caption", {}, "Calibrated to this speaker"),
    html("thead", {}, html("tr", {}, ...["Emotion", "Before", "After"].map((word) => html("th", { scope: "col" }, word)))),
    html("tbody", {}, ...labels.map((label) => html("tr", {}, html("th", { scope: "row" }, swatch(label), label), cell(before, label), cell(after, label)))));
}

// Every segment as a row: hear it, read it, correct it. `play(start, end)`, `corrected()` after a correction.
export function segmentTable({ predictions }, labels, { play, corrected }) {
  const many = predictions.length > 1;
  const row = (channel, segment) => {
    const { start, end, label, abstained, probabilities } = segment, shown = segment.corrected ?? label;
    const time = `${clock(start)} to ${clock(end)}`;
    const choice = html("select", { "aria-label": `Emotion from ${time}` },
      ...[...(label ? [] : [null]), ...labels].map((one) => html("option", { value: one ?? "", selected: one === shown }, one ?? abstained)));
    choice.addEventListener("change", () => {
      segment.corrected = choice.value && choice.value !== label ? choice.value : undefined;
      made.replaceWith(made = row(channel, segment));
      made.querySelector("select").focus();
      corrected();
    });
    let made = html("tr", {}, many ? html("td", {}, channel) : null,
      html("td", {}, html("button", { type: "button", class: "link", "aria-label": `Play ${time}`, onclick: () => play(start, end) }, time)),
      html("td", {}, swatch(shown), choice, segment.corrected ? html("span", { class: "fine" }, ` was ${label ?? abstained}`) : null),
      ...labels.map((one) => html("td", {}, one in probabilities ? percent(probabilities[one]) : "–")));
    return made;
  };
  return html("table", {}, html("caption", { class: "unseen" }, "Segments of the recording"),
    html("thead", {}, html("tr", {}, ...[...(many ? ["Channel"] : []), "Time", "Emotion", ...labels].map((word) => html("th", { scope: "col" }, word)))),
    html("tbody", {}, ...predictions.flatMap(({ channel, segments }) => segments.map((segment) => row(channel, segment)))));
}

// Several recordings as a table that can be sorted; `open(recording)` shows one.
export function recordingTable(recordings, labels, open, sorting = { column: null, down: false }) {
  const rows = recordings.flatMap((recording) => (recording.predictions ?? [null]).map((one) => ({ recording, one })));
  const columns = [
    ["Recording", ({ recording, one }) => recording.name + (one && one.channel !== "mix" ? `, ${one.channel}` : "")],
    ["Length", ({ one }) => one?.duration ?? -1], ["Emotion", ({ recording, one }) => (one ? verdict(one) : recording.error ?? "waiting")],
    ...labels.map((label) => [label, ({ one }) => one?.probabilities[label] ?? -1]),
  ];
  const { column, down } = sorting;
  if (column !== null) {
    const key = columns[column][1];
    rows.sort((a, b) => (down ? -1 : 1) * (typeof key(a) === "number" ? key(a) - key(b) : key(a).localeCompare(key(b))));
  }
  const sort = (index) => {
    const next = recordingTable(recordings, labels, open, { column: index, down: column === index ? !down : index > 2 });
    table.replaceWith(next);
    next.querySelectorAll("thead button")[index].focus();
  };
  const head = columns.map(([word], index) => html("th", { scope: "col", "aria-sort": column === index ? (down ? "descending" : "ascending") : null },
    html("button", { type: "button", class: "link", onclick: () => sort(index) }, capital(word), column === index ? (down ? " ▼" : " ▲") : "")));
  const body = rows.map((row) => html("tr", {}, ...columns.map(([word, key], index) => {
    const value = key(row), { recording, one } = row;
    if (index === 0) return html("th", { scope: "row" }, one ? html("button", { type: "button", class: "link", onclick: () => open(recording) }, value) : value);
    if (index === 2) return html("td", { class: "wrap" }, one ? swatch(clear(one) ? one.label : null) : null, value);
    return html("td", {}, value < 0 ? "–" : word === "Length" ? clock(value) : percent(value));
  })));
  const table = html("table", {}, html("caption", { class: "unseen" }, "Recordings; the headings sort"), html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body));
  return table;
}
