// The frames of the last minutes: a bounded list, ascending in time.

const KEPT = 300; // seconds, the longest range
const MOST = 900; // frames, if they come faster than one a second

export class History {
  frames = [];

  // Frames that are known already, as after a reconnect, are not doubled. What comes last is the
  // present, even if a clock was set back. Another endpoint's past is not this one's.
  add(frames) {
    const valid = frames.filter((frame) => Number.isFinite(frame?.at));
    if (!valid.length) return;
    const now = valid.at(-1);
    const byTime = new Map();
    for (const frame of [...this.frames, ...valid]) {
      if (frame.endpoint === now.endpoint && frame.at <= now.at) byTime.set(frame.at, frame);
    }
    this.frames = [...byTime.values()]
      .filter((frame) => frame.at > now.at - KEPT)
      .sort((a, b) => a.at - b.at)
      .slice(-MOST)
      .map((frame) => (frame.at === now.at ? frame : slim(frame)));
  }

  get newest() {
    return this.frames.at(-1) ?? null;
  }
}

// Each frame tells all slow commands of the last minutes, and all nodes: those of the newest are
// enough.
function slim(frame) {
  return frame.slow?.length || frame.nodes?.length ? { ...frame, slow: [], nodes: [] } : frame;
}
