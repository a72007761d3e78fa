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

// Recordings as CSV: a row for each segment, or with `whole` for each recording.
export function csv(recordings, labels, whole = false) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
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
  return rows.map((row) => row.map((value) => cell(String(value))).join(",")).join("\r\n") + "\r\n";
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
