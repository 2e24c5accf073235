// Figures for people. Null, undefined and NaN are a dash: unknown, or nothing was measured.

const THIN = "\u202f";
export const DASH = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

// Three significant digits, and no more decimals than they need.
function three(value) {
  const size = Math.abs(value);
  if (size >= 99.95 || value === 0) return Math.round(value).toString();
  return value.toFixed(size >= 9.995 ? 1 : 2);
}

function scaled(value, steps) {
  const size = Math.abs(value);
  const [by, unit] = steps.find(([step]) => size >= step * 0.9995) ?? steps.at(-1);
  return three(value / by) + THIN + unit;
}

// Latencies: 840 ns, 310 µs, 1.24 ms, 2.5 s.
export function time(seconds) {
  if (!known(seconds)) return DASH;
  if (seconds === 0) return `0${THIN}µs`;
  return scaled(seconds, [
    [1, "s"],
    [1e-3, "ms"],
    [1e-6, "µs"],
    [1e-9, "ns"],
  ]);
}

// Sizes: 512 B, 16.4 kB, 1.2 GB.
export function bytes(value) {
  if (!known(value)) return DASH;
  if (value < 1000) return Math.round(value) + THIN + "B";
  return scaled(value, [
    [1e12, "TB"],
    [1e9, "GB"],
    [1e6, "MB"],
    [1e3, "kB"],
  ]);
}

// Whole things: 1 204, 88 120.
export function count(value) {
  if (!known(value)) return DASH;
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, THIN);
}

// Things per second: 0.2, 940, 12.4 k.
export function rate(value) {
  if (!known(value)) return DASH;
  if (value < 1000)
    return value === 0 ? "0" : value < 0.01 ? "<0.01" : three(value).replace(/\.?0+$/, decimals);
  return scaled(value, [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]);
}

// Trailing zeros go only behind a point: 2.50 is 2.5, 250 stays.
function decimals(zeros, _at, whole) {
  return whole.includes(".") ? "" : zeros;
}

export const perSecond = (value) => (known(value) ? `${rate(value)}/s` : DASH);

export function share(value) {
  if (!known(value)) return DASH;
  const percent = value * 100;
  if (percent > 0 && percent < 1) return `<1${THIN}%`;
  return Math.round(percent) + THIN + "%";
}

// How long something has lasted: 8 s, 4 min 20 s, 3 h 12 min, 9 d 4 h.
export function lasting(seconds) {
  if (!known(seconds)) return DASH;
  const s = Math.max(0, Math.floor(seconds));
  const two = (big, bigUnit, small, smallUnit) =>
    big + THIN + bigUnit + (small ? ` ${small}${THIN}${smallUnit}` : "");
  if (s < 60) return s + THIN + "s";
  if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
export const clock = (at) => (known(at) ? CLOCK.format(at * 1000) : DASH);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
