// Requests to the server that the page came from.

// An error for the person at the page: what is wrong, and how to mend it.
export class Trouble extends Error {
  constructor(what, mend = "", status = 0) {
    super(what);
    Object.assign(this, { what, mend, status });
  }
}

let secret = sessionStorage.getItem("token") ?? ""; // for servers that ask for one

async function ask(path, options = {}) {
  let answer;
  try {
    const headers = { ...options.headers, ...(secret ? { Authorization: `Bearer ${secret}` } : {}) };
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Trouble("the server does not answer", "Is it still running? Start it again, then try again.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && (secret = prompt("This server asks for an access token:") ?? "")) {
    sessionStorage.setItem("token", secret);
    return ask(path, options);
  }
  const problem = await answer.json().catch(() => ({}));
  throw new Trouble(problem.what ?? `the server answered ${answer.status}`, problem.mend ?? "Try again.", answer.status);
}

export const health = async () => (await ask("health")).json();

// The model card as elements. The server renders it without any HTML or script of the card's own.
export async function card() {
  const page = new DOMParser().parseFromString(await (await ask("card?format=html")).text(), "text/html");
  for (const link of page.querySelectorAll("a")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  return [...page.body.childNodes];
}

function upload(path, audio, clips = []) {
  if (!clips.length) {
    return ask(path, { method: "POST", body: audio, headers: { "Content-Type": "application/octet-stream" } });
  }
  const form = new FormData();
  form.append("file", new Blob([audio]));
  for (const clip of clips) form.append("enrol", new Blob([clip]));
  return ask(path, { method: "POST", body: form });
}

// The predictions of the channels asked for: one, or with `each` all of them; `clips` are of the same speaker.
export async function predict(audio, channel, clips) {
  if (channel === "each") return (await upload("channels?steps=true", audio)).json();
  return [await (await upload(`predict?steps=true&channel=${channel}`, audio, clips)).json()];
}
