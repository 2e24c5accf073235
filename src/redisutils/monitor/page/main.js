// The dashboard: frames come in by the stream, are kept by the history, looked at through the
// view, and drawn by the panels. Everything is drawn at most once for each frame of the screen.

import { Commands } from "./commands.js";
import { PartsOverTime, Shares } from "./composition.js";
import { controls, drawControls } from "./controls.js";
import { $ } from "./dom.js";
import { Errors } from "./errors.js";
import { breakerFacts, Facts, serverFacts } from "./facts.js";
import { Head } from "./head.js";
import { History } from "./history.js";
import { heatMap, latency, throughput } from "./plots.js";
import { Nodes } from "./nodes.js";
import { Pool } from "./pool.js";
import { Process } from "./process.js";
import { Slow } from "./slow.js";
import { Stream } from "./stream.js";
import { Suspects } from "./suspects.js";
import { onTheme } from "./theme.js";
import { View } from "./view.js";

const history = new History();
const stream = new Stream("events");
const view = new View(history);
const head = new Head(history, stream);
const panels = [
  new Suspects($("suspects"), view),
  throughput($("throughput"), view),
  latency($("latency"), view),
  heatMap($("heat"), view),
  new PartsOverTime($("parts"), view),
  new Shares($("shares"), view),
  new Nodes($("nodes"), view),
  new Pool($("pool"), view),
  new Errors($("errors"), view),
  new Commands($("commands"), view),
  new Slow($("slow"), view),
  new Facts($("server"), view, "Server", serverFacts),
  new Process($("process"), view),
  new Facts($("breaker"), view, "Circuit breaker", breakerFacts),
];
controls(view);

// What the next screen frame has to do: nothing, read out values, or draw.
let due = "";

function plan(what) {
  if (!due) requestAnimationFrame(render);
  if (due !== "draw") due = what;
}

function render() {
  const todo = due;
  due = "";
  drawControls(view);
  for (const panel of panels) panel[todo]();
}

stream.addEventListener("frames", (event) => {
  history.add(event.detail);
  head.draw(); // at once, also in a tab that is not looked at: the title and the icon tell
  if (!view.paused) plan("draw");
});
stream.addEventListener("state", () => head.draw());
stream.addEventListener("tick", () => head.draw());
onTheme(() => plan("draw"));
view.addEventListener("range", () => plan("draw"));
view.addEventListener("moment", () => plan("read"));
head.draw();
plan("draw");
