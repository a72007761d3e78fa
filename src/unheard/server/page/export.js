// Answers as files, with the fields and columns of `unheard predict`; what was corrected is added.

export function download(text, name, type) {
  const link = Object.assign(document.createElement("a"), { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// One recording as JSON; a list where it has several channels.
export function json({ name, predictions }) {
  const named = predictions.map((prediction) => ({ file: name, ...prediction }));
  return `${JSON.stringify(named.length === 1 ? named[0] : named, null, 1)}\n`;
}

const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
const table = (rows) => rows.map((row) => row.map((value) => cell(String(value))).join(",")).join("\r\n") + "\r\n";

// Recordings as CSV: a row for each segment, or with `whole` for each recording.
export function csv(recordings, labels, whole = false) {
  const rows = [["file", "channel", "start", "end", "label", ...labels.map((label) => `p_${label}`), "abstained", "error", "corrected"]];
  for (const { name, predictions, error } of recordings) {
    if (!predictions) rows.push([name, ...Array(labels.length + 5).fill(""), error ?? "", ""]);
    for (const prediction of predictions ?? []) {
      for (const one of whole ? [{ ...prediction, start: 0, end: prediction.duration }] : prediction.segments) {
        const values = labels.map((label) => one.probabilities[label] ?? "");
        rows.push([name, prediction.channel, one.start, one.end, one.label ?? "", ...values, one.abstained ?? "", "", one.corrected ?? ""]);
      }
    }
  }
  return table(rows);
}

// Tasks for Label Studio, one a channel: the answers as predictions, and as an annotation where any was corrected.
// They fit <View><Labels name="emotion" toName="audio">…</Labels><Audio name="audio" value="$audio"/></View>.
export function labelStudio({ name, predictions }) {
  const tasks = predictions.map(({ channel, segments, duration, probabilities, model }) => {
    const number = channel === "right" ? 1 : Math.max(0, Number(channel) - 1) || 0;
    const regions = (label) => segments.map((segment, index) => ({ segment, index })).filter(({ segment }) => label(segment)).map(({ segment, index }) => ({
      id: `segment${index}`, from_name: "emotion", to_name: "audio", type: "labels", original_length: duration, score: Math.max(0, ...Object.values(segment.probabilities)),
      value: { start: segment.start, end: segment.end, channel: number, labels: [label(segment)] },
    }));
    const corrected = segments.some((segment) => segment.corrected);
    return {
      data: { audio: name, channel },
      predictions: [{ model_version: model, score: Math.max(0, ...Object.values(probabilities)), result: regions(({ label }) => label) }],
      annotations: corrected ? [{ result: regions((segment) => segment.corrected ?? segment.label) }] : [],
    };
  });
  return `${JSON.stringify(tasks, null, 1)}\n`;
}

// A database for audformat, as a zip: `emotion` is what the timeline shows, `predicted` what the model answered. It has
// a table for each channel, because an index of audformat has no place for channels.
export function audformat({ name, predictions }, { labels, model, licence }) {
  const column = (scheme_id, rater_id = "model") => ({ scheme_id, rater_id });
  const columns = {
    emotion: column("emotion", "corrected"), predicted: column("emotion"),
    ...Object.fromEntries(labels.map((label) => [`p_${label}`, column("probability")])), abstained: column("reason"),
  };
  const tables = Object.fromEntries(predictions.map(({ channel, segments }) => [predictions.length === 1 ? "segments" : `segments_${channel}`, segments]));
  const database = {
    name: "unheard", description: "Emotions predicted by a machine, corrected by a person", source: "unheard serve", usage: "other",
    raters: { model: { type: "machine", description: `unheard model ${model}; licence of its weights: ${licence || "not stated"}` }, corrected: { type: "other", description: "the model, corrected by a person" } },
    schemes: { emotion: { dtype: "str", labels }, probability: { dtype: "float", minimum: 0, maximum: 1 }, reason: { dtype: "str" } },
    tables: Object.fromEntries(Object.keys(tables).map((id) => [id, { type: "segmented", columns }])),
  };
  const row = ({ start, end, label, corrected, probabilities, abstained }) =>
    [name, `${start}s`, `${end}s`, corrected ?? label ?? "", label ?? "", ...labels.map((one) => probabilities[one] ?? ""), abstained ?? ""];
  const files = Object.entries(tables).map(([id, segments]) => [`db.${id}.csv`, table([["file", "start", "end", ...Object.keys(columns)], ...segments.map(row)])]);
  return zip([["db.yaml", `${JSON.stringify(database, null, 1)}\n`], ...files]); // JSON is YAML
}

// Texts as an uncompressed zip. Source: PKWARE, APPNOTE.TXT, section 4.3.
function zip(files) {
  const numbers = (...fields) => Uint8Array.from(fields.flatMap(([size, value]) => Array.from({ length: size }, (_, byte) => (value / 256 ** byte) & 255)));
  const parts = [], index = [];
  let at = 0, indexed = 0;
  for (const [name, text] of files) {
    const title = new TextEncoder().encode(name), content = new TextEncoder().encode(text);
    const about = numbers([2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, crc32(content)], [4, content.length], [4, content.length], [2, title.length], [2, 0]);
    index.push(numbers([4, 0x02014b50], [2, 20]), about, numbers([8, 0], [2, 0], [4, at]), title);
    parts.push(numbers([4, 0x04034b50]), about, title, content);
    at += 30 + title.length + content.length;
    indexed += 46 + title.length;
  }
  return new Blob([...parts, ...index, numbers([4, 0x06054b50], [4, 0], [2, files.length], [2, files.length], [4, indexed], [4, at], [2, 0])]);
}

function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ -1) >>> 0;
}
