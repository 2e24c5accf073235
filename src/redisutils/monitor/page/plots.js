// The plots of the whole: throughput, percentiles, and every latency there was.

import { el } from "./dom.js";
import { columns, heat, line, lowerOf } from "./painters.js";
import { Plot } from "./plot.js";
import { linear, logarithmic, roundDown, roundUp } from "./scale.js";
import { bytes, count, perSecond, rate, time } from "./units.js";

const commands = (frame) => frame.throughput?.commands ?? null;
const failures = (frame) => frame.throughput?.failures ?? 0;
const largest = (frames, value) =>
  frames.reduce((most, frame) => Math.max(most, value(frame) || 0), 0);

export function throughput(host, view) {
  return new Plot(host, view, {
    title: "Throughput",
    series: () => [
      { label: "commands", ink: "flow", read: (frame) => perSecond(commands(frame)) },
      { label: "failures", ink: "bad", read: (frame) => perSecond(failures(frame)) },
      { label: "in", read: (frame) => `${bytes(frame.throughput?.bytes_in)}/s` },
      { label: "out", read: (frame) => `${bytes(frame.throughput?.bytes_out)}/s` },
    ],
    scale: (frames) => linear(Math.max(largest(frames, commands), largest(frames, failures)), 10),
    unit: rate,
    paint(pen, frames) {
      line(pen, frames, commands, { ink: "flow", fill: 0.16 });
      columns(pen, frames, [{ ink: "bad", value: failures }]);
    },
    nothing: () => "",
  });
}

const LINES = [
  { key: "p50", label: "p50", ink: "p50", width: 1.5 },
  { key: "p95", label: "p95", ink: "p95", width: 1.5 },
  { key: "p99", label: "p99", ink: "p99", width: 2 },
  { key: "p999", label: "p99.9", ink: "p999", width: 1.2, dash: [3, 2.5] },
];
const measured = (frame) => (frame.latency?.count ?? 0) > 0;
const percentile = (key) => (frame) => (measured(frame) ? (frame.latency[key] ?? null) : null);
const idle = (frames) => (frames.some(measured) ? "" : "No commands in this time");

// The same for both, so that they can be compared at a glance: steps of 1, 2, 5 keep it calm.
function latencies(frames) {
  let low = Infinity;
  let high = 0;
  for (const frame of frames) {
    for (const [upper] of frame.heat ?? []) {
      if (!Number.isFinite(upper)) continue;
      low = Math.min(low, lowerOf(upper));
      high = Math.max(high, upper);
    }
    for (const { key } of LINES) {
      const value = percentile(key)(frame);
      if (!value) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return high ? logarithmic(roundDown(low), roundUp(high)) : logarithmic(1e-4, 1e-1);
}

export function latency(host, view) {
  return new Plot(host, view, {
    title: "Latency",
    series: () =>
      LINES.map(({ key, label, ink }) => ({
        label,
        ink,
        read: (frame) => time(percentile(key)(frame)),
      })),
    scale: latencies,
    unit: time,
    paint(pen, frames) {
      for (const { key, ...style } of LINES) line(pen, frames, percentile(key), style);
    },
    labels: LINES.map(({ key, label, ink }) => ({ label, ink, value: percentile(key) })),
    nothing: idle,
  });
}

export function heatMap(host, view) {
  return new Plot(host, view, {
    title: "Latency heat map",
    tools: [el("p", "aside", "few ", el("span", "ramp"), " many")],
    series: () => [
      { label: "commands", read: (frame) => count(frame.latency?.count) },
      { label: "most at", ink: "heat-3", read: mostAt },
      { label: "slowest", read: (frame) => time(measured(frame) ? frame.latency.max : null) },
    ],
    scale: latencies,
    unit: time,
    paint: heat,
    nothing: idle,
  });
}

function mostAt(frame) {
  if (!frame.heat?.length) return time(null);
  const [upper] = frame.heat.reduce((best, band) => (band[1] > best[1] ? band : best));
  return `${time(lowerOf(upper))} … ${time(upper)}`;
}
