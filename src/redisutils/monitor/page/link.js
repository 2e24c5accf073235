// Whether this page itself still hears: in a word at the top, and in a banner when it does not.

import { $, el, mark, say } from "./dom.js";
import { clock, lasting } from "./units.js";

const PATIENCE = 3; // seconds that a first answer may take

$("banner").addEventListener("click", (event) => {
  if (event.target.closest("button")) location.reload(); // the server gives the form
});

// stale: whether what is shown is the past.
export function drawLink(stream, frame, stale) {
  const link = linkOf(stream, frame, stale);
  mark(document.body, "data-link", link);
  say($("link-words"), link === "stale" ? `stale for ${lasting(stream.silence)}` : link);
  const banner = $("banner");
  banner.hidden = !(stale || link === "signed out");
  if (link === "signed out") askToSignIn(banner);
  else if (stale)
    say(banner, `${trouble(stream, link)} What is below ended at ${clock(frame.at)}.`);
}

function linkOf({ state, silence }, frame, stale) {
  if (frame?.closed) return "ended";
  if (state === "live" && stale) return "stale";
  if (state === "connecting" && silence > PATIENCE) return "no answer yet";
  return state === "lost" ? "reconnecting" : state;
}

function trouble({ why }, link) {
  if (link === "stale") return "No figures come, though the connection stands.";
  const what = why ? `has none: ${why}` : "does not answer";
  return `The dashboard’s own server ${what}. It is tried again by itself.`;
}

function askToSignIn(banner) {
  if (banner.querySelector("button")) return;
  banner.replaceChildren("The server asks for its token again.", el("button", "", "Sign in"));
}
