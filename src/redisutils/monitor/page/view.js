// What part of the history is looked at: its range, whether it stands still, and the moment
// under the pointer or the keyboard's cursor.

export class View extends EventTarget {
  range = 60;
  paused = null; // the frames that it was paused at
  #history;
  #pinned = null;
  #hovered = null;

  constructor(history) {
    super();
    this.#history = history;
  }

  // All frames that can be looked at.
  get all() {
    return this.paused ?? this.#history.frames;
  }

  // Those in range: (from, until].
  get frames() {
    const { from } = this;
    return this.all.filter((frame) => frame.at > from);
  }

  get until() {
    return this.all.at(-1)?.at ?? 0;
  }

  get from() {
    return this.until - this.range;
  }

  // The frame whose values are shown, or null before the first one.
  get shown() {
    const at = this.at;
    return at === null ? (this.all.at(-1) ?? null) : this.#nearest(at);
  }

  // The moment that is pointed at, or null when now is shown.
  get at() {
    const at = this.#hovered ?? this.#pinned;
    return at !== null && at > this.from ? at : null;
  }

  // The frames that led to the one shown: a second alone says little about percentiles.
  recent(seconds = 5) {
    const until = this.shown?.at ?? 0;
    return this.all.filter((frame) => frame.at <= until && frame.at > until - seconds);
  }

  setRange(seconds) {
    this.range = seconds;
    this.#changed("range");
  }

  setPaused(paused) {
    this.paused = paused ? this.#history.frames : null;
    this.#changed("range");
  }

  hover(at) {
    this.#hovered = at === null ? null : (this.#nearest(at)?.at ?? null);
    this.#changed("moment");
  }

  pin(at) {
    this.#pinned = at === null ? null : (this.#nearest(at)?.at ?? null);
    this.#hovered = null;
    this.#changed("moment");
  }

  // Move the cursor by so many frames; past the newest it is now again.
  step(by) {
    const frames = this.frames;
    if (!frames.length) return;
    const here = this.at === null ? frames.length - 1 : frames.indexOf(this.shown);
    const there = Math.max(0, here + by);
    this.pin(there >= frames.length ? null : frames[there].at);
  }

  #nearest(at) {
    let best = null;
    for (const frame of this.frames) {
      if (best === null || Math.abs(frame.at - at) <= Math.abs(best.at - at)) best = frame;
    }
    return best;
  }

  #changed(kind) {
    this.dispatchEvent(new Event(kind));
  }
}
