// What the page is doing, what went wrong, and which question is the latest.
import { Trouble } from "./server.js";

const $ = (id) => document.getElementById(id);
const RETRY = [0, 408, 429, 503, 504]; // trouble that may be over by now; 0: no answer at all
let turn = 0;
let again = null;

export function status(text) {
  $("status").textContent = text;
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
  status("");
}

// Does `steps`, and says so meanwhile. A later question takes the page over: `steps` is given a function that says
// whether its answer is still wanted. Resolves to whether it was answered.
export async function question(text, steps, offer = {}) {
  const mine = ++turn;
  const current = () => mine === turn;
  $("trouble").hidden = true;
  $("ask").setAttribute("aria-busy", "true");
  status(text);
  let error = null;
  try {
    await steps(current);
  } catch (caught) {
    error = caught;
  }
  if (!current()) return false;
  $("ask").removeAttribute("aria-busy");
  status("");
  if (error) trouble(error, offer);
  return !error;
}

$("again").addEventListener("click", () => again?.());
