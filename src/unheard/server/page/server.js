// Requests to the server that the page came from.

// An error for the person at the page: what is wrong, and how to mend it.
export class Trouble extends Error {
  constructor(what, mend = "", status = 0) {
    super(what);
    Object.assign(this, { what, mend, status });
  }
}

const GONE = ["the server does not answer", "Check that it is still running, then try again."];
let token = sessionStorage.getItem("token") ?? ""; // for servers that ask for one

const refused = ({ what, mend }, status) => new Trouble(what ?? `the server answered ${status}`, mend ?? "Try again.", status);

function tokenAsked() {
  token = prompt("This server asks for an access token:") ?? "";
  sessionStorage.setItem("token", token);
  return token !== "";
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" }).catch(() => { throw new Trouble(...GONE); });
  if (!answer.ok) throw refused(await answer.json().catch(() => ({})), answer.status);
  return answer;
}

export const health = async () => (await get("health")).json();
export const samples = async () => (await get("samples")).json();
export const file = async (path) => (await get(path)).blob();

// The model card as elements. The server renders it without any HTML or script of the card's own.
export async function card() {
  const page = new DOMParser().parseFromString(await (await get("card?format=html")).text(), "text/html");
  for (const link of page.querySelectorAll("a")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  for (const head of page.querySelectorAll("th:empty")) head.replaceWith(page.createElement("td")); // heads nothing
  return [...page.body.childNodes];
}

// The predictions of the channels asked for: one, or with `each` all of them; `clips` are of the same speaker.
// `progress(phase, share)` is told how far it is. XMLHttpRequest, because fetch does not report uploads.
export function predict(audio, channel, clips, { signal, progress }) {
  let body = audio;
  if (clips.length) {
    body = new FormData();
    body.append("file", new Blob([audio]));
    for (const clip of clips) body.append("enrol", new Blob([clip]));
  }
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const last = () => JSON.parse(request.responseText.trimEnd().split("\n").at(-1));
    request.open("POST", channel === "each" ? "channels?steps=true" : `predict?steps=true&channel=${channel}`);
    request.setRequestHeader("Accept", "application/x-ndjson");
    if (!clips.length) request.setRequestHeader("Content-Type", "application/octet-stream");
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.upload.onprogress = ({ loaded, total }) => progress("Sending", loaded / total);
    request.upload.onload = () => progress("Recognising", 0);
    request.onprogress = () => {
      if (request.status === 200 && request.responseText.endsWith("\n")) progress("Recognising", last().progress ?? 1);
    };
    request.onerror = () => reject(new Trouble(...GONE));
    request.onload = () => {
      try {
        const said = last();
        if (request.status === 401 && tokenAsked()) resolve(predict(audio, channel, clips, { signal, progress }));
        else if (request.status !== 200) reject(refused(said, request.status));
        else if (said.answer) resolve(said.answer);
        else reject(refused(said.problem ?? {}, said.problem?.status ?? 0));
      } catch {
        reject(refused({}, request.status));
      }
    };
    signal.addEventListener("abort", () => { request.abort(); reject(signal.reason); }, { once: true });
    request.send(body);
  });
}

// Speech as it is spoken: `onSteps` gets what is known so far; `finish` resolves to the answer, or to null where the
// server could not take it, and the recording is to be sent as a file.
export class Live {
  #waiting = [];

  constructor(sampleRate, onSteps) {
    this.socket = new WebSocket(new URL("stream", document.baseURI).href.replace(/^http/, "ws"));
    this.answer = new Promise((resolve) => {
      this.socket.onmessage = ({ data }) => {
        const said = JSON.parse(data);
        if (said.steps) onSteps(said.steps);
        else resolve(said.answer ?? null);
      };
      this.socket.onclose = () => resolve(null);
    });
    this.socket.onopen = () => this.#waiting.forEach((message) => this.socket.send(message));
    this.push(JSON.stringify({ sample_rate: sampleRate, token }));
  }

  push(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
    else if (this.socket.readyState === WebSocket.CONNECTING) this.#waiting.push(message);
  }

  finish() {
    this.push(JSON.stringify({ end: true }));
    return this.answer;
  }
}
