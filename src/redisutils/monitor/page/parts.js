// The five parts of a latency: what they are called, their colours, and what they say together.

import { el, mark, each } from "./dom.js";
import { share, time } from "./units.js";

// In the order that a command goes through them. `words` completes "p99 is 82 % …".
export const PARTS = [
  {
    key: "wait",
    label: "Wait",
    ink: "wait",
    words: "waiting for a connection",
    about: "for a connection, or room on it",
  },
  {
    key: "queue",
    label: "Queue",
    ink: "queue",
    words: "waiting to be written",
    about: "until written to the socket",
  },
  {
    key: "wire",
    label: "Wire",
    ink: "wire",
    words: "network and server",
    about: "the network and the server",
  },
  {
    key: "loop",
    label: "Loop",
    ink: "loop",
    words: "the program’s event loop",
    about: "answered, and the program busy",
  },
  { key: "parse", label: "Parse", ink: "parse", words: "parsing", about: "reading the answer" },
];

export const PERCENTILES = [
  { key: "p50", label: "p50" },
  { key: "p95", label: "p95" },
  { key: "p99", label: "p99" },
  { key: "p999", label: "p99.9" },
];

export const totalOf = (split) => PARTS.reduce((sum, { key }) => sum + (split?.[key] || 0), 0);

// A split, or null where nothing was measured.
export function splitOf(frame, percentile) {
  const split = frame?.split?.[percentile];
  return totalOf(split) > 0 ? split : null;
}

// The split of the middle one of some frames: a single second jumps about, and the mean of many
// belongs to none of them.
export function usual(frames, percentile) {
  const splits = frames.map((frame) => splitOf(frame, percentile)).filter(Boolean);
  splits.sort((a, b) => totalOf(a) - totalOf(b));
  return splits[splits.length >> 1] ?? null;
}

// "p99 is 1.24 ms: 82 % network and server."
export function verdict(split, label) {
  const total = totalOf(split);
  if (!total) return "";
  const ranked = PARTS.map((part) => ({ ...part, part: split[part.key] / total })).sort(
    (a, b) => b.part - a.part,
  );
  const [first, second] = ranked;
  const head = `${label} is ${time(total)}: ${share(first.part)} ${first.words}`;
  return first.part >= 0.6 ? `${head}.` : `${head}, ${share(second.part)} ${second.words}.`;
}

// A bar that is as long as its host, divided by the parts.
export function partsBar() {
  return el("span", "bar");
}

export function fillBar(bar, split) {
  const total = totalOf(split);
  bar.classList.toggle("none", !total);
  each(
    bar,
    total ? PARTS : [],
    (part) => el("span", part.key),
    (piece, { key }) => {
      const width = `${((split[key] || 0) / total) * 100}%`;
      if (piece.style.width !== width) piece.style.width = width;
    },
  );
  const words = total
    ? PARTS.map(({ key, label }) => `${label} ${time(split[key])}`).join(", ")
    : "not measured";
  mark(bar, "role", "img");
  mark(bar, "aria-label", words);
  mark(bar, "title", words);
}
