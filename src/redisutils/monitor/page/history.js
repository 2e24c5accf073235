// The frames of the last minutes: a bounded list, ascending in time.

const KEPT = 300; // seconds, the longest range
const MOST = 900; // frames, if they come faster than one a second

export class History {
  frames = [];

  // Frames that are known already, as after a reconnect, are not doubled. Another endpoint's
  // past is not this one's: it is dropped.
  add(frames) {
    const valid = frames.filter((frame) => Number.isFinite(frame?.at));
    if (!valid.length) return;
    const endpoint = valid.at(-1).endpoint;
    const byTime = new Map();
    for (const frame of [...this.frames, ...valid]) {
      if (frame.endpoint === endpoint) byTime.set(frame.at, frame);
    }
    const sorted = [...byTime.values()].sort((a, b) => a.at - b.at);
    const first = sorted.at(-1).at - KEPT;
    this.frames = sorted.filter((frame) => frame.at > first).slice(-MOST);
    // Each frame tells all slow commands of the last minutes: those of the newest are enough.
    for (const frame of this.frames.slice(0, -1)) frame.slow = [];
  }

  get newest() {
    return this.frames.at(-1) ?? null;
  }
}
