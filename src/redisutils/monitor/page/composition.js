// What the latency is made of: over time for one percentile, and side by side for all of them.

import { attributes, each, el, mark, say } from "./dom.js";
import { stack } from "./painters.js";
import {
  usual,
  fillBar,
  PARTS,
  partsBar,
  PERCENTILES,
  splitOf,
  totalOf,
  verdict,
} from "./parts.js";
import { Plot } from "./plot.js";
import { linear } from "./scale.js";
import { clock, share, time } from "./units.js";

const CHOICES = [...PERCENTILES, { key: "mean", label: "mean" }];

// The stacked plot. Buttons choose the percentile.
export class PartsOverTime extends Plot {
  constructor(host, view) {
    const state = { key: "p99", label: "p99" };
    const choice = attributes(el("div", "choice small"), {
      role: "group",
      "aria-label": "Percentile",
    });
    super(host, view, {
      title: "Parts over time",
      tools: [choice],
      series: () =>
        PARTS.map(({ key, label, ink }) => ({
          label,
          ink,
          read: (frame) => time(splitOf(frame, state.key)?.[key]),
        })),
      scale: (frames) =>
        linear(Math.max(0, ...frames.map((frame) => totalOf(splitOf(frame, state.key)))), 1e-5),
      unit: time,
      paint: (pen, frames) =>
        stack(
          pen,
          frames,
          PARTS.map(({ key, ink }) => ({ ink, value: (frame) => frame.split[state.key][key] })),
          (frame) => splitOf(frame, state.key),
        ),
      nothing: (frames) =>
        frames.some((frame) => splitOf(frame, state.key)) ? "" : "No commands in this time",
    });
    for (const option of CHOICES) {
      const button = attributes(el("button", "", option.label), {
        type: "button",
        "aria-pressed": option.key === state.key,
      });
      button.addEventListener("click", () => {
        Object.assign(state, option);
        for (const other of choice.children) mark(other, "aria-pressed", other === button);
        this.draw();
      });
      choice.append(button);
    }
  }
}

// A bar for each percentile, and the verdict. A moment that is pointed at is shown alone; now is
// the middle one of the last seconds.
export class Shares {
  #view;
  #aside = el("p", "aside");
  #verdict = el("p", "verdict");
  #rows = el("div", "shares");
  #key = el("dl", "legend parts-key");

  constructor(host, view) {
    this.#view = view;
    host.append(
      el("div", "title", el("h2", "", "Where the time goes"), this.#aside),
      this.#verdict,
      this.#rows,
      this.#key,
    );
  }

  draw() {
    this.read();
  }

  read() {
    const frames = this.#view.at === null ? this.#view.recent() : [this.#view.shown];
    const splits = PERCENTILES.map((percentile) => ({
      ...percentile,
      split: usual(frames, percentile.key),
    }));
    say(
      this.#aside,
      this.#view.at === null ? "median of the last 5 s" : `at ${clock(this.#view.shown.at)}`,
    );
    const slow = splits.find(({ key }) => key === "p99").split;
    say(
      this.#verdict,
      slow
        ? verdict(slow, "p99")
        : this.#view.shown
          ? "No commands, nothing to divide."
          : "Waiting for the first second",
    );
    each(this.#rows, splits, shareRow, (row, { label, split }) => {
      const [name, bar, total] = row.children;
      say(name, label);
      fillBar(bar, split);
      say(total, time(split ? totalOf(split) : null));
    });
    const whole = totalOf(slow);
    each(this.#key, PARTS, keyItem, (item, { key, about }) => {
      const part = whole ? slow[key] / whole : null;
      say(item.lastChild, `${share(part)} ${about}`);
    });
  }
}

function shareRow() {
  return el("div", "", el("span", "name"), partsBar(), el("span", "total"));
}

function keyItem({ label, ink }) {
  const item = el("div", "", el("dt", "", el("i", "swatch"), el("span", "", label)), el("dd"));
  item.style.setProperty("--c", `var(--${ink})`);
  return item;
}
