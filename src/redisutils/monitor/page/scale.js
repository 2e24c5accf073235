// From values to places: linear from zero, or logarithmic; with ticks that people can read.

const STEPS = [1, 2, 5, 10];

// The next of 1, 2, 5, 10, 20, … that is not below (or, going down, not above) a value.
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.find((step) => step * power >= value * 0.9999) * power;
}

export function roundDown(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.findLast((step) => step * power <= value * 1.0001) * power;
}

// 0 … top. `place(value)` is 0 to 1; `ticks` ascend.
export function linear(top, atLeast) {
  const least = Math.max(top || 0, atLeast);
  const step = roundUp(least / 4);
  const end = Math.ceil((least / step) * 0.9999) * step;
  const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, n) => n * step);
  return { place: (value) => value / end, ticks, end };
}

// bottom … top, both above zero.
export function logarithmic(bottom, top) {
  const low = Math.log2(bottom);
  const high = Math.log2(Math.max(top, bottom * 8));
  const ticks = [];
  for (
    let decade = 10 ** Math.floor(Math.log10(bottom));
    decade <= 2 ** high * 1.001;
    decade *= 10
  ) {
    if (decade >= bottom * 0.999) ticks.push(decade);
  }
  const place = (value) => (Math.log2(Math.max(value, bottom)) - low) / (high - low);
  return { place, ticks, end: 2 ** high };
}
