// What went wrong: failures by what callers know of them, and what was sent again.

import { each, el, mark, say } from "./dom.js";
import { columns } from "./painters.js";
import { Plot } from "./plot.js";
import { linear } from "./scale.js";
import { count, perSecond, rate } from "./units.js";

// The colour is of the outcome, for that is what matters: was it done, or not, or who knows?
const OUTCOMES = [
  { outcome: "NOT_SENT", ink: "not-sent", words: "never sent" },
  { outcome: "REJECTED", ink: "rejected", words: "refused" },
  { outcome: "UNKNOWN", ink: "bad", words: "may be done" },
];

const sum = (items) => (items ?? []).reduce((total, item) => total + (item.rate || 0), 0);
const failed = (outcome) => (frame) =>
  sum(frame.errors?.filter((error) => error.outcome === outcome));
const retried = (frame) => sum(frame.retries);

export class Errors extends Plot {
  #view;
  #rows = el("tbody");

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
    const titles = el(
      "tr",
      "",
      el("th", "", "What"),
      el("th", "", "Outcome"),
      el("th", "figure", "Now"),
      el("th", "figure", "In all"),
    );
    host.append(
      el(
        "div",
        "scroll",
        el(
          "table",
          "errors",
          el("caption", "sr", "Errors and retries by kind"),
          el("thead", "", titles),
          this.#rows,
        ),
      ),
    );
  }

  read() {
    super.read();
    if (!this.#view) return; // while the plot is being made
    const frame = this.#view.shown;
    const errors = (frame?.errors ?? []).map((error) => ({
      ...error,
      kind: OUTCOMES.find(({ outcome }) => outcome === error.outcome),
    }));
    const retries = (frame?.retries ?? []).map((retry) => ({
      ...retry,
      name: retry.reason,
      kind: { ink: "retry" },
    }));
    const byTotal = (a, b) => b.total - a.total || (a.name < b.name ? -1 : 1);
    const rows = [...errors.sort(byTotal), ...retries.sort(byTotal)];
    each(this.#rows, rows.length ? rows.slice(0, 8) : [null], errorRow, changeError);
  }
}

function errorRow() {
  return el(
    "tr",
    "",
    el("th", "", el("i", "swatch"), el("span")),
    el("td"),
    el("td", "figure"),
    el("td", "figure"),
  );
}

function changeError(row, error) {
  const [name, outcome, now, total] = row.children;
  mark(row, "data-state", error ? (error.rate ? "look" : "good") : "none");
  row.style.setProperty("--c", error?.kind?.ink ? `var(--${error.kind.ink})` : "transparent");
  say(name.lastChild, error ? error.name : "None since the pool was opened");
  say(
    outcome,
    !error
      ? ""
      : error.reason !== undefined
        ? "sent again"
        : [error.outcome, error.kind?.words].filter(Boolean).join(", "),
  );
  say(now, error ? perSecond(error.rate) : "");
  say(total, error ? count(error.total) : "");
}
