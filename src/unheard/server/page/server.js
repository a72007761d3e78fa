// What the page asks of the server it came from.

// Something a person can read and act on: what is wrong, and how to mend it.
export class Trouble extends Error {
  constructor(what, mend = "", status = 0) {
    super(what);
    Object.assign(this, { what, mend, status });
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, cache: "no-store" });
  } catch {
    throw new Trouble("the server does not answer", "Is it still running? Start it again, then try again.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Trouble(said.what ?? `the server answered ${answer.status}`, said.mend ?? "Try again.", answer.status);
}

export const health = async () => (await ask("health")).json();

export const card = async () => (await ask("card")).text();

const upload = (path, audio, headers = {}) =>
  ask(path, { method: "POST", body: audio, headers: { "Content-Type": "application/octet-stream", ...headers } });

const known = (token) => (token ? { Voice: token } : {});

// The prediction of every channel asked for: one, or with `each` all of them. `token` is what `learn` gave.
export async function predict(audio, channel, token) {
  if (channel === "each") return (await upload("channels?steps=true", audio)).json();
  return [await (await upload(`predict?steps=true&channel=${channel}`, audio, known(token))).json()];
}

// What a clip says of its speaker's voice, added to what `token` holds.
export const learn = async (audio, token) => (await upload("voice", audio, known(token))).json();
