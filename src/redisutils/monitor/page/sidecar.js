// Where pool and program are the monitor's own, that is said: at the top, and on their cards.

import { $, say } from "./dom.js";

// By the panel: as a rule, and in a sidecar.
const TITLES = {
  pool: ["Pool and lanes", "The monitor's own pool"],
  process: ["Program", "The monitor's own process"],
};

export function drawSidecar(frame) {
  const own = frame?.sidecar === true;
  $("sidecar").hidden = !own;
  for (const [id, titles] of Object.entries(TITLES)) {
    say($(id).querySelector("h2"), titles[Number(own)]);
  }
}
