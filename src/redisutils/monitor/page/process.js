// The program itself: how late its event loop is, and what the collector, memory and core do.

import { el } from "./dom.js";
import { Facts } from "./facts.js";
import { line } from "./painters.js";
import { Plot } from "./plot.js";
import { linear } from "./scale.js";
import { bytes, perSecond, share, time } from "./units.js";

const lag = (frame) => frame.process?.loop_lag_p99 ?? null;
const pause = (frame) => frame.process?.gc_pause_max || null;

export class Process extends Plot {
  #facts;

  constructor(host, view) {
    super(host, view, {
      title: "Program",
      series: () => [
        { label: "loop lag p99", ink: "loop", read: (frame) => time(lag(frame)) },
        {
          label: "longest pause of the collector",
          ink: "wait",
          read: (frame) => time(frame.process?.gc_pause_max),
        },
      ],
      scale: (frames) =>
        linear(
          Math.max(0, ...frames.map((frame) => Math.max(lag(frame) ?? 0, pause(frame) ?? 0))),
          1e-3,
        ),
      unit: time,
      paint(pen, frames) {
        line(pen, frames, lag, { ink: "loop", fill: 0.16 });
        line(pen, frames, pause, { ink: "wait" });
      },
      nothing: (frames) => (frames.some((frame) => lag(frame) !== null) ? "" : "Not measured yet"),
    });
    const below = el("div");
    host.append(below);
    this.#facts = new Facts(below, view, "", processFacts);
    below.firstChild.remove();
  }

  read() {
    super.read();
    this.#facts?.read();
  }
}

function processFacts({ process = {} }) {
  return [
    ["Loop lag", `${time(process.loop_lag_p50)} usual, ${time(process.loop_lag_max)} at most`],
    ["Collector", `${perSecond(process.gc_pauses)}, ${time(process.gc_pause_max)} at most`],
    ["Memory", bytes(process.memory)],
    [
      "Core",
      share(process.cpu),
      {
        part: process.cpu ?? null,
        state: process.cpu > 0.95 ? "bad" : process.cpu > 0.8 ? "look" : "good",
      },
    ],
  ];
}
