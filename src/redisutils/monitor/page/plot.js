// One plot over time: its frame, its legend that reads out values, its table, its cursor. What is
// drawn in it is a painter's business (painters.js).
//
// To a keyboard and a screen reader it is a slider through time; its table holds all the values.

import { each, el, attributes, mark, say } from "./dom.js";
import { ink } from "./theme.js";
import { clock } from "./units.js";

const TABLE_ROWS = 60;
const byCanvas = new Map();
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) byCanvas.get(target).draw();
});

export class Plot {
  #view;
  #spec;
  #legend = el("dl", "legend");
  #canvas = attributes(document.createElement("canvas"), {
    role: "slider",
    tabindex: 0,
    "aria-valuemin": 0,
    "aria-valuenow": 0,
  });
  #cursor = el("div", "cursor");
  #nothing = el("p", "nothing");
  #table = null;
  #left = 0;
  #width = 0;

  // spec:
  //   title     of the panel
  //   tools     elements beside the title, if any
  //   series()  [{label, ink?, read(frame) → text}]: the legend, and the columns of the table
  //   scale     (frames) → see scale.js
  //   unit      (value) → text, for the ticks
  //   paint     (pen, frames): see painters.js
  //   labels    [{label, ink, value(frame)}], ascending: names at the lines' right ends, if any
  //   nothing   (frames) → what to say when there is nothing to draw, or ""
  constructor(host, view, spec) {
    this.#view = view;
    this.#spec = spec;
    mark(this.#canvas, "aria-label", spec.title);
    const heading = el("h2", "", spec.title);
    const toggle = attributes(el("button", "quiet", "Table"), {
      type: "button",
      "aria-expanded": "false",
      "aria-label": `${spec.title} as a table`,
    });
    toggle.addEventListener("click", () => this.#toggleTable(toggle));
    const box = el("div", "plot", this.#canvas, this.#cursor, this.#nothing);
    this.box = box;
    host.append(el("div", "title", heading, ...(spec.tools ?? []), toggle), this.#legend, box);
    this.#listen();
    byCanvas.set(this.#canvas, this);
    sizes.observe(this.#canvas);
  }

  draw() {
    if (!this.box.hidden) this.#drawCanvas();
    this.read();
    this.#fillTable();
  }

  #drawCanvas() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width || !height) return;
    const dots = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * dots), Math.round(height * dots)];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) {
      this.#canvas.width = wide;
      this.#canvas.height = high;
    }
    const context = this.#canvas.getContext("2d");
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.clearRect(0, 0, width, height);
    const frames = this.#view.frames;
    const nothing = frames.length ? this.#spec.nothing(frames) : "Waiting for the first second";
    say(this.#nothing, nothing);
    this.#paint(context, width, height, frames, Boolean(nothing));
  }

  // The values at the moment shown, and the cursor there.
  read() {
    const { shown, at } = this.#view;
    each(this.#legend, this.#spec.series(), legendItem, (item, series) => {
      say(item.firstChild.lastChild, series.label);
      if (series.ink) item.style.setProperty("--c", `var(--${series.ink})`);
      item.classList.toggle("plain", !series.ink);
      say(item.lastChild, shown ? series.read(shown) : "–");
    });
    this.#cursor.hidden = at === null;
    if (at !== null) this.#cursor.style.transform = `translateX(${this.#x(shown.at)}px)`;
    this.#speak(shown, at);
  }

  #paint(context, width, height, frames, empty) {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const size = Math.round(rem * 0.72);
    context.font = `${size}px ${getComputedStyle(this.#canvas).fontFamily}`;
    context.textBaseline = "middle";
    const scale = this.#spec.scale(frames);
    const labels = scale.ticks.map((tick) => plain(this.#spec.unit(tick)));
    const left =
      Math.ceil(Math.max(...labels.map((text) => context.measureText(text).width), size * 3)) +
      size * 0.6;
    const top = Math.round(size * 0.7);
    const bottom = height - Math.round(size * 1.6);
    this.#left = left;
    this.#width = width - left - (this.#spec.labels ? size * 3 : 1);
    const y = (value) => bottom - Math.min(1.02, scale.place(value)) * (bottom - top);
    const pen = {
      context,
      ink,
      top,
      bottom,
      y,
      left,
      right: left + this.#width,
      x: (at) => this.#x(at),
      fine: rem / 14, // how much thicker lines are on a large screen
    };
    this.#grid(pen, scale.ticks, labels, size);
    if (empty) return;
    context.save();
    context.beginPath();
    context.rect(left, 0, this.#width + 1, bottom);
    context.clip();
    this.#spec.paint(pen, frames);
    context.restore();
    this.#nameEnds(pen, frames, size);
  }

  #grid({ context, y, left, right, bottom }, ticks, labels, size) {
    context.fillStyle = ink("soft");
    context.textAlign = "right";
    let above = Infinity;
    ticks.forEach((tick, n) => {
      const at = Math.round(y(tick)) + 0.5;
      context.fillStyle = ink(n ? "grid" : "line");
      context.fillRect(left, at - 0.5, right - left, 1);
      if (above - at < size * 1.2) return; // no room for its label
      above = at;
      context.fillStyle = ink("soft");
      context.fillText(labels[n], left - size * 0.6, at);
    });
    const { range } = this.#view;
    const marks =
      range > 60
        ? [0, 1, 2, 3, 4, 5].map((n) => [n * 60, `−${n} min`])
        : [0, 15, 30, 45, 60].map((n) => [n, `−${n} s`]);
    for (const [ago, words] of marks) {
      const x = this.#x(this.#view.until - ago);
      context.textAlign = ago === 0 ? "right" : ago === range ? "left" : "center";
      context.fillText(ago ? words : "now", x, bottom + size);
    }
  }

  // The names of lines at their right ends, pushed apart where they would overlap.
  #nameEnds({ context, y, right, top, bottom }, frames, size) {
    const last = frames.at(-1);
    const ends = (this.#spec.labels ?? [])
      .map((end) => ({ ...end, at: end.value(last) }))
      .filter((end) => end.at !== null);
    context.textAlign = "left";
    let below = bottom + size / 2;
    for (const { label, ink: colour, at } of ends) {
      below = Math.max(top, Math.min(y(at), below - size * 1.1));
      context.fillStyle = ink(colour);
      context.fillText(label, right + size * 0.4, below);
    }
  }

  #x(at) {
    const { from, range } = this.#view;
    return this.#left + ((at - from) / range) * this.#width;
  }

  #listen() {
    const view = this.#view;
    const at = (event) => view.from + ((event.offsetX - this.#left) / this.#width) * view.range;
    this.#canvas.addEventListener("pointermove", (event) => view.hover(at(event)));
    this.#canvas.addEventListener("pointerleave", () => view.hover(null));
    this.#canvas.addEventListener("click", (event) => view.pin(at(event)));
  }

  // Each second's news is not read aloud to whoever stands on the plot; a moved cursor is.
  #speak(shown, at) {
    const canvas = this.#canvas;
    if (!shown || (at === null && document.activeElement === canvas)) return;
    mark(canvas, "aria-valuemax", this.#view.range);
    mark(canvas, "aria-valuenow", Math.round(shown.at - this.#view.from));
    const values = this.#spec.series().map((series) => `${series.label} ${series.read(shown)}`);
    mark(
      canvas,
      "aria-valuetext",
      `${at === null ? "now" : clock(shown.at)}: ${values.join(", ")}`,
    );
  }

  #toggleTable(toggle) {
    const open = toggle.getAttribute("aria-expanded") === "false";
    mark(toggle, "aria-expanded", open);
    say(toggle, open ? "Plot" : "Table");
    this.box.hidden = open;
    this.#table?.remove();
    this.#table = null;
    if (open) {
      const table = el(
        "table",
        "values",
        el("caption", "sr", this.#spec.title),
        el("thead"),
        el("tbody"),
      );
      this.#table = attributes(el("div", "scroll", table), {
        tabindex: 0,
        role: "region",
        "aria-label": `${this.#spec.title}, values`,
      });
      this.box.after(this.#table);
      this.#fillTable();
    } else {
      this.draw();
    }
  }

  #fillTable() {
    if (!this.#table) return;
    const [, head, body] = this.#table.firstChild.children;
    const columns = this.#spec.series();
    each(
      head,
      [["Time", ...columns.map((series) => series.label)]],
      () => el("tr"),
      (row, titles) => each(row, titles, () => attributes(el("th"), { scope: "col" }), say),
    );
    const frames = this.#view.frames;
    const every = Math.max(1, Math.ceil(frames.length / TABLE_ROWS));
    const rows = frames.filter((_, n) => (frames.length - 1 - n) % every === 0).reverse();
    each(
      body,
      rows,
      () => el("tr"),
      (row, frame) =>
        each(
          row,
          [clock(frame.at), ...columns.map((series) => series.read(frame))],
          () => el("td"),
          say,
        ),
    );
  }
}

// A tick is a round figure: 5.00 ms is 5 ms.
function plain(text) {
  return text.replace(/\.0+(?=\D|$)|(\.\d*?[1-9])0+(?=\D|$)/, "$1");
}

function legendItem() {
  return el("div", "", el("dt", "", el("i", "swatch"), el("span")), el("dd"));
}
