// The pool and its lanes as they fill.

import { attributes, each, el, mark, say, table } from "./dom.js";
import { line } from "./painters.js";
import { Plot } from "./plot.js";
import { linear } from "./scale.js";
import { bytes, count } from "./units.js";

export class Pool extends Plot {
  #view;
  #lanes = el("tbody");

  constructor(host, view) {
    const inFlight = (frame) => frame.in_flight ?? null;
    const waiting = (frame) => frame.pool?.waiting ?? null;
    super(host, view, {
      title: "Pool and lanes",
      series: () => [
        {
          label: "in flight",
          ink: "flow",
          read: (frame) => `${count(frame.in_flight)}, ${bytes(frame.in_flight_bytes)}`,
        },
        {
          label: "in use",
          ink: "use",
          read: (frame) => `${count(frame.pool?.in_use)} of ${count(frame.pool?.max_size)}`,
        },
        { label: "waiting", ink: "wait", read: (frame) => count(waiting(frame)) },
        { label: "open", read: (frame) => count(frame.pool?.size) },
      ],
      scale: (frames) =>
        linear(
          Math.max(
            0,
            ...frames.map((frame) =>
              Math.max(inFlight(frame) ?? 0, waiting(frame) ?? 0, frame.pool?.in_use ?? 0),
            ),
          ),
          8,
        ),
      unit: count,
      paint(pen, frames) {
        line(pen, frames, inFlight, { ink: "flow", fill: 0.16 });
        line(pen, frames, (frame) => frame.pool?.in_use ?? null, { ink: "use" });
        line(pen, frames, (frame) => waiting(frame) || null, { ink: "wait", width: 2 });
      },
      nothing: () => "",
    });
    this.#view = view;
    this.slots = el("div", "slots");
    const titles = [["Lane"], ["State"], ["In flight", "figure"], [""], ["Waiting", "figure"]];
    host.append(this.slots, table("Lanes", titles, this.#lanes, "lanes"));
  }

  read() {
    super.read();
    if (!this.slots) return; // while the plot is being made
    const frame = this.#view.shown;
    this.#drawSlots(frame?.pool ?? {});
    const lanes = frame?.lanes ?? [];
    const most = Math.max(1, ...lanes.map((lane) => lane.in_flight));
    const rows = lanes.length ? lanes : [null];
    each(this.#lanes, rows, laneRow, (row, lane) => changeLane(row, lane, most));
  }

  // Each connection that the pool may have is a slot: in use, open, or not made yet.
  #drawSlots({ max_size: most = 0, size = 0, in_use: used = 0 }) {
    const fill = (width) => `${most ? Math.min(100, (width / most) * 100) : 0}%`;
    each(
      this.slots,
      [
        ["used", used],
        ["idle", Math.max(0, size - used)],
      ],
      ([name]) => el("span", name),
      (piece, [, n]) => {
        piece.style.width = fill(n);
      },
    );
    const words = `${count(used)} in use, ${count(Math.max(0, size - used))} open and idle, of at most ${count(most)}`;
    mark(this.slots, "role", "img");
    mark(this.slots, "aria-label", words);
    mark(this.slots, "title", words);
  }
}

function laneRow() {
  return el(
    "tr",
    "",
    attributes(el("th"), { scope: "row" }),
    el("td", "state"),
    el("td", "figure"),
    el("td", "meter", el("span", "fill")),
    el("td", "figure"),
  );
}

function changeLane(row, lane, most) {
  const [name, state, flight, meter, waiting] = row.children;
  mark(
    row,
    "data-state",
    !lane ? "none" : !lane.connected ? "bad" : lane.blocked ? "look" : "good",
  );
  say(name, lane ? lane.name : "No lanes yet");
  say(state, !lane ? "" : !lane.connected ? "not connected" : lane.blocked ? "full" : "connected");
  say(flight, lane ? count(lane.in_flight) : "");
  meter.firstChild.style.width = lane ? `${(lane.in_flight / most) * 100}%` : "0";
  say(waiting, lane ? count(lane.waiting) : "");
}
