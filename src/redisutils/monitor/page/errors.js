// What went wrong: failures by what callers know of them, and what was sent again; in all, and
// for each kind.

import { attributes, each, el, mark, say, table } from "./dom.js";
import { columns } from "./painters.js";
import { Plot } from "./plot.js";
import { linear } from "./scale.js";
import { drawSpark, spark } from "./spark.js";
import { count, perSecond, rate } from "./units.js";

// The colour is of the outcome, for that is what matters: was it done, or not, or who knows?
const OUTCOMES = [
  { outcome: "NOT_SENT", ink: "not-sent", words: "never sent" },
  { outcome: "REJECTED", ink: "rejected", words: "refused" },
  { outcome: "UNKNOWN", ink: "bad", words: "may be done" },
];
const ROWS = 8;

const sum = (items) => (items ?? []).reduce((total, item) => total + (item.rate || 0), 0);
const failed = (outcome) => (frame) =>
  sum(frame.errors?.filter((error) => error.outcome === outcome));
const retried = (frame) => sum(frame.retries);

export class Errors extends Plot {
  #view;
  #rows = el("tbody");
  #kinds = [];

  constructor(host, view) {
    super(host, view, {
      title: "Errors and retries",
      series: () => [
        ...OUTCOMES.map(({ outcome, ink }) => ({
          label: outcome,
          ink,
          read: (frame) => perSecond(failed(outcome)(frame)),
        })),
        { label: "retries", ink: "retry", read: (frame) => perSecond(retried(frame)) },
      ],
      scale: (frames) =>
        linear(Math.max(0, ...frames.map((frame) => sum(frame.errors) + retried(frame))), 4),
      unit: rate,
      paint: (pen, frames) =>
        columns(pen, frames, [
          ...OUTCOMES.map(({ outcome, ink }) => ({ ink, value: failed(outcome) })),
          { ink: "retry", value: retried },
        ]),
      nothing: (frames) =>
        frames.some((frame) => sum(frame.errors) || retried(frame))
          ? ""
          : "No errors and no retries in this time",
    });
    this.#view = view;
    const titles = [
      ["What"],
      ["Outcome"],
      ["Now", "figure"],
      ["In all", "figure"],
      ["Over time", "over"],
    ];
    host.append(table("Errors and retries by kind", titles, this.#rows, "errors"));
  }

  draw() {
    super.draw();
    const { frames } = this.#view;
    this.#kinds.forEach(({ value, ink }, n) => {
      drawSpark(this.#rows.children[n].children[4].firstChild, this.#view, frames, value, ink);
    });
  }

  read() {
    super.read();
    if (!this.#view) return; // while the plot is being made
    const frame = this.#view.shown;
    const byTotal = (a, b) => b.total - a.total || (a.name < b.name ? -1 : 1);
    this.#kinds = [
      ...(frame?.errors ?? []).map(errorKind).sort(byTotal),
      ...(frame?.retries ?? []).map(retryKind).sort(byTotal),
    ].slice(0, ROWS);
    each(this.#rows, this.#kinds.length ? this.#kinds : [null], kindRow, changeKind);
  }
}

function errorKind({ name, outcome, rate: now, total }) {
  const known = OUTCOMES.find((one) => one.outcome === outcome);
  const same = (error) => error.name === name && error.outcome === outcome;
  return {
    name,
    now,
    total,
    words: [outcome, known?.words].filter(Boolean).join(", "),
    ink: known?.ink ?? "soft",
    value: (frame) => sum(frame.errors?.filter(same)),
  };
}

function retryKind({ reason, rate: now, total }) {
  return {
    name: reason,
    now,
    total,
    words: "sent again",
    ink: "retry",
    value: (frame) => sum(frame.retries?.filter((retry) => retry.reason === reason)),
  };
}

function kindRow() {
  const words = el("th", "", el("i", "swatch"), el("span"));
  const name = attributes(words, { scope: "row" });
  const over = el("td", "over", spark());
  return el("tr", "", name, el("td", "outcome"), el("td", "figure"), el("td", "figure"), over);
}

function changeKind(row, kind) {
  const [name, outcome, now, total, over] = row.children;
  mark(row, "data-state", kind ? "good" : "none");
  row.style.setProperty("--c", kind ? `var(--${kind.ink})` : "transparent");
  say(name.lastChild, kind ? kind.name : "None since the pool was opened");
  say(outcome, kind ? kind.words : "");
  over.firstChild.hidden = !kind;
  say(now, kind ? perSecond(kind.now) : "");
  say(total, kind ? count(kind.total) : "");
}
