// What the page is doing, what went wrong, and which question of a kind is the latest.
import { Trouble } from "./server.js";

const $ = (id) => document.getElementById(id);
const RETRY = [0, 408, 429, 503, 504]; // trouble that may be over by now; 0: no answer at all
const running = new Map(); // the latest question of each kind that is not answered yet
let standing = "";
let again = null;

// Says what holds while no question is being answered.
export function status(text) {
  standing = text;
  say();
}

function say() {
  const latest = [...running.values()].at(-1);
  if (latest) $("ask").setAttribute("aria-busy", "true");
  else $("ask").removeAttribute("aria-busy");
  $("status").textContent = latest ? latest.text : standing;
}

// Nobody waits any more for the answer to the question of this kind.
export function cancel(kind) {
  running.delete(kind);
  say();
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Says what went wrong, with the recording called `name`. `repeat` is offered where trying again may help.
export function trouble(error, { name = "", repeat = null } = {}) {
  const known = error instanceof Trouble;
  if (!known) console.error(error);
  $("trouble-what").textContent = known ? `${name ? `${name}: ${error.what}` : capital(error.what)}.` : "Something went wrong in this page.";
  $("trouble-mend").textContent = known ? error.mend : String(error?.message ?? error);
  again = known && RETRY.includes(error.status) ? repeat : null;
  $("again").hidden = !again;
  $("trouble").hidden = false;
}

// Does `steps`, and says so meanwhile. A later question of the same kind takes over: `steps` is given a function that
// says whether its answer is still wanted. Resolves to whether it was answered.
export async function question(text, steps, { kind = "speech", ...offer } = {}) {
  const mine = { text };
  const current = () => running.get(kind) === mine;
  $("trouble").hidden = true;
  running.delete(kind); // so that the latest is the last
  running.set(kind, mine);
  say();
  let error = null;
  try {
    await steps(current);
  } catch (caught) {
    error = caught;
  }
  if (!current()) return false;
  cancel(kind);
  if (error) trouble(error, offer);
  return !error;
}

$("again").addEventListener("click", () => again?.());
