// A plot of the height of a line of text: when something has happened, in a row of a table.

import { columns } from "./painters.js";
import { ink } from "./theme.js";

export function spark() {
  const canvas = document.createElement("canvas");
  canvas.className = "spark";
  canvas.setAttribute("aria-hidden", "true"); // the row says how much, the plot's table when
  return canvas;
}

// `value` of each frame in range, in columns of a colour.
export function drawSpark(canvas, view, frames, value, colour) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const dots = devicePixelRatio || 1;
  // To set the size clears it, too.
  canvas.width = Math.round(width * dots);
  canvas.height = Math.round(height * dots);
  const context = canvas.getContext("2d");
  context.scale(dots, dots);
  const most = Math.max(0, ...frames.map(value));
  context.fillStyle = ink("grid");
  context.fillRect(0, height - 1, width, 1);
  if (!most) return;
  const pen = {
    context,
    ink,
    x: (at) => ((at - view.from) / view.range) * width,
    y: (rate) => height - 1 - (rate / most) * (height - 1),
  };
  columns(pen, frames, [{ ink: colour, value }]);
}
