// What goes into a plot: lines, areas, stacks, columns and the heat map. Each takes a pen
// (see plot.js) and the frames in range; a value of null leaves a gap.

// A frame that comes so much later than the one before is not joined to it.
const GAP = 2.6;

// When a frame's interval began: with the one before, but for a gap.
function beginOf(frame, before) {
  const seconds = frame.seconds || 1;
  return before && frame.at - before.at <= GAP * seconds ? before.at : frame.at - seconds;
}

// Runs of frames that follow each other and have a value.
function* runs(frames, value) {
  let run = [];
  for (const frame of frames) {
    const known = value(frame) !== null && value(frame) !== undefined;
    const late = run.length && beginOf(frame, run.at(-1)) !== run.at(-1).at;
    if ((!known || late) && run.length) {
      yield run;
      run = [];
    }
    if (known) run.push(frame);
  }
  if (run.length) yield run;
}

function trace(pen, run, value) {
  run.forEach((frame, n) => {
    const [x, y] = [pen.x(frame.at), pen.y(value(frame))];
    if (n) pen.context.lineTo(x, y);
    else pen.context.moveTo(x, y);
  });
}

// options: {ink, width?, dash?, fill?: opacity}
export function line(pen, frames, value, { ink, width = 1.5, dash = [], fill = 0 }) {
  const { context } = pen;
  context.strokeStyle = context.fillStyle = pen.ink(ink);
  context.lineWidth = width * pen.fine;
  context.lineJoin = "round";
  for (const run of runs(frames, value)) {
    if (fill) {
      context.beginPath();
      trace(pen, run, value);
      context.lineTo(pen.x(run.at(-1).at), pen.bottom);
      context.lineTo(pen.x(run[0].at), pen.bottom);
      context.globalAlpha = fill;
      context.fill();
      context.globalAlpha = 1;
    }
    context.beginPath();
    context.setLineDash(dash.map((length) => length * pen.fine));
    trace(pen, run, value);
    context.stroke();
    context.setLineDash([]);
    if (run.length === 1) dot(pen, run[0], value);
  }
}

// A second between two gaps is a point, and would be no line at all.
function dot(pen, frame, value) {
  pen.context.beginPath();
  pen.context.arc(pen.x(frame.at), pen.y(value(frame)), 1.8 * pen.fine, 0, 7);
  pen.context.fill();
}

// layers: [{ink, value}], the first at the bottom. `whole(frame)` is null where there is none.
export function stack(pen, frames, layers, whole) {
  const { context } = pen;
  for (const run of runs(frames, whole)) {
    // One lonely second is drawn as wide as it was.
    const wide =
      run.length > 1 ? run : [{ ...run[0], at: run[0].at - (run[0].seconds || 1) }, run[0]];
    let base = wide.map(() => 0);
    for (const { ink, value } of layers) {
      const top = wide.map((frame, n) => base[n] + (value(frame) || 0));
      context.beginPath();
      wide.forEach((frame, n) => context.lineTo(pen.x(frame.at), pen.y(top[n])));
      for (let n = wide.length - 1; n >= 0; n--) context.lineTo(pen.x(wide[n].at), pen.y(base[n]));
      context.closePath();
      context.fillStyle = pen.ink(ink);
      context.fill();
      base = top;
    }
  }
}

// As `stack`, a column for each frame: for what happens now and then.
export function columns(pen, frames, layers) {
  const { context } = pen;
  for (const [n, frame] of frames.entries()) {
    const right = pen.x(frame.at);
    const width = Math.max(1, right - pen.x(beginOf(frame, frames[n - 1])) - 1);
    let base = 0;
    for (const { ink, value } of layers) {
      const more = value(frame) || 0;
      if (!more) continue;
      const [low, high] = [pen.y(base), pen.y(base + more)];
      context.fillStyle = pen.ink(ink);
      context.fillRect(right - width, Math.min(high, low - 2), width, Math.max(2, low - high));
      base += more;
    }
  }
}

const SHADES = 24;
let ramp = { key: "", shades: [] };

// How dark a band of the heat map is: by the logarithm, so that the one slow command in ten
// thousand is still seen.
export function heat(pen, frames) {
  const { context } = pen;
  const most = Math.max(
    1,
    ...frames.flatMap((frame) => (frame.heat ?? []).map(([, count]) => count)),
  );
  const shades = shadesOf([pen.ink("heat-1"), pen.ink("heat-2"), pen.ink("heat-3")]);
  const full = Math.log(most + 1);
  for (const [n, frame] of frames.entries()) {
    const right = Math.round(pen.x(frame.at));
    const left = Math.round(pen.x(beginOf(frame, frames[n - 1])));
    for (const [upper, count] of frame.heat ?? []) {
      if (!Number.isFinite(upper)) continue;
      const high = Math.floor(pen.y(upper));
      const low = Math.max(high + 1, Math.floor(pen.y(lowerOf(upper))));
      context.fillStyle = shades[Math.round((Math.log(count + 1) / full) * (SHADES - 1))];
      context.fillRect(left, high, Math.max(1, right - left), low - high);
    }
  }
}

// Each power of two has four bands of one width.
export function lowerOf(upper) {
  return upper - 2 ** (Math.ceil(Math.log2(upper)) - 1) / 4;
}

function shadesOf(stops) {
  const key = stops.join();
  if (ramp.key !== key) {
    const colours = stops.map((stop) =>
      stop
        .match(/[\d.]+/g)
        .slice(0, 3)
        .map(Number),
    );
    const shades = Array.from({ length: SHADES }, (_, n) => {
      const place = (n / (SHADES - 1)) * (colours.length - 1);
      const from = Math.min(Math.floor(place), colours.length - 2);
      const mixed = colours[from].map((c, i) =>
        Math.round(c + (colours[from + 1][i] - c) * (place - from)),
      );
      return `rgb(${mixed.join(" ")})`;
    });
    ramp = { key, shades };
  }
  return ramp.shades;
}
