// An answer as headline, charts, table and files.
import { Chart } from "./chart.js";
import { clock, colour, percent } from "./emotions.js";

const element = (name, text = "", attributes = {}) => {
  const made = Object.assign(document.createElement(name), { textContent: text });
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const best = ({ label, probabilities }) => `${label} (${percent(probabilities[label])})`;

// The answer in one line: “Happy (72 %)”, or why there is none.
export function headline(predictions) {
  const say = (one) => (one.abstained ? `No answer: ${one.abstained}` : best(one));
  if (predictions.length === 1) return capital(say(predictions[0]));
  return predictions.map((one) => `${capital(one.channel)}: ${say(one)}`).join(" · ");
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// What the headline leaves out: the runners-up, how much was heard, whose voice, what makes it less certain, or what was given and not used.
export function notes(predictions, name, { unused = false, files = 1 } = {}) {
  const [first] = predictions;
  const each = predictions.map(({ channel, speech }) => `${channel} ${clock(speech)}`).join(", ");
  const parts = [name, `${clock(first.duration)} long, ${predictions.length === 1 ? `${clock(first.speech)} of speech` : `speech: ${each}`}`];
  if (predictions.length === 1 && !first.abstained) {
    const others = Object.entries(first.probabilities).filter(([label]) => label !== first.label).sort((a, b) => b[1] - a[1]);
    parts.push(`then ${others.map(([label, share]) => `${label} ${percent(share)}`).join(", ")}`);
  }
  if (first.profile) parts.push(`adapted to a speaker known from ${first.profile.utterances} utterance${first.profile.utterances === 1 ? "" : "s"}`);
  if (first.remark) parts.push(first.remark); // of the file: the same for every channel
  if (unused) parts.push("every channel has its own speaker: the enrolled clips were not used");
  if (files > 1) parts.push(`only the first of ${files} files was taken`);
  return parts.filter(Boolean).join(" · ");
}

// A chart for every channel, in `box`; `sounds` holds the samples of each, null where there are none to show.
export function charts(box, predictions, labels, sounds) {
  box.replaceChildren();
  return predictions.map((prediction, index) => {
    const figure = element("figure");
    if (predictions.length > 1) figure.append(element("figcaption", capital(prediction.channel)));
    const canvas = element("canvas", "", {
      tabindex: "0", role: "slider", "aria-valuemin": "0",
      "aria-label": `Position in the recording${predictions.length > 1 ? `, channel ${prediction.channel}` : ""}`,
    });
    figure.append(canvas);
    box.append(figure);
    return new Chart(canvas, sounds[index], prediction, labels);
  });
}

// Every segment as a row; its time is a button that goes there.
export function table(box, predictions, labels, seek) {
  const many = predictions.length > 1;
  const head = element("tr");
  for (const word of [...(many ? ["channel"] : []), "from", "to", "emotion", ...labels]) head.append(element("th", word, { scope: "col" }));
  const body = element("tbody");
  for (const prediction of predictions) {
    for (const segment of prediction.segments) {
      const row = element("tr");
      if (many) row.append(element("td", prediction.channel));
      const from = element("td");
      const go = element("button", clock(segment.start), { type: "button", class: "link", "aria-label": `Go to ${segment.start.toFixed(1)} seconds` });
      go.addEventListener("click", () => seek(segment.start));
      from.append(go);
      const emotion = element("td", segment.label ?? segment.abstained);
      if (segment.label) {
        const dot = element("span", "", { class: "dot" });
        dot.style.background = colour(segment.label, labels);
        emotion.prepend(dot);
      }
      row.append(from, element("td", clock(segment.end)), emotion);
      for (const label of labels) row.append(element("td", label in segment.probabilities ? percent(segment.probabilities[label]) : "–"));
      body.append(row);
    }
  }
  const made = element("table");
  made.append(element("caption", "Segments of the recording", { class: "unseen" }), element("thead"), body);
  made.tHead.append(head);
  box.replaceChildren(made);
}

// The answer as JSON; a list where there are several channels.
export function plain({ predictions, name }) {
  const named = predictions.map((prediction) => ({ file: name, ...prediction }));
  return `${JSON.stringify(named.length === 1 ? named[0] : named, null, 1)}\n`;
}

// The segments as CSV, a row each.
export function csv({ predictions, labels, name }) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = [["file", "channel", "start", "end", "label", "abstained", ...labels.map((label) => `p_${label}`)]];
  for (const { channel, segments } of predictions) {
    for (const { start, end, label, abstained, probabilities } of segments) {
      rows.push([name, channel, start, end, label ?? "", abstained ?? "", ...labels.map((one) => probabilities[one] ?? "")]);
    }
  }
  return rows.map((row) => row.map((value) => cell(String(value))).join(",")).join("\r\n") + "\r\n";
}

export function download(text, name, type) {
  const link = element("a", "", { download: name });
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
