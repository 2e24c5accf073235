// The header: health in words, colour and sign.
// It is always about now, also when the plots stand still or show another moment.

import { $, each, el, say } from "./dom.js";
import { drawLink } from "./link.js";
import { drawSidecar } from "./sidecar.js";
import { setSign, sign } from "./signs.js";
import { clock, lasting } from "./units.js";

// A frame is due each second; after so long without one, what is shown is the past.
const STALE = 3;

const WORDS = {
  healthy: "Healthy",
  degraded: "Degraded",
  unhealthy: "Unhealthy",
  closed: "Pool closed",
  stale: "No data",
  unknown: "Connecting",
  "signed out": "Signed out",
};
const FAULTS = ["degraded", "unhealthy"];
const SIGNS = { healthy: "good", degraded: "look", unhealthy: "bad" };

export class Head {
  #history;
  #stream;
  #status = "unknown";
  #sign = sign();

  constructor(history, stream) {
    this.#history = history;
    this.#stream = stream;
    setSign(this.#sign, "none");
    $("sign").append(this.#sign);
  }

  get stale() {
    const { newest } = this.#history;
    return newest !== null && !newest.closed && this.#stream.silence > STALE;
  }

  draw() {
    const frame = this.#history.newest;
    const status = this.#statusOf(frame);
    if (status !== this.#status) this.#turn(status, frame);
    say($("health"), WORDS[status]);
    say($("since"), this.#sinceWords(frame, status));
    say($("endpoint"), frame?.endpoint ?? "–");
    say($("server-line"), serverLine(frame?.server));
    this.#drawReasons(frame, status);
    drawSidecar(frame);
    drawLink(this.#stream, frame, this.stale);
  }

  #statusOf(frame) {
    if (this.#stream.state === "signed out") return "signed out";
    if (!frame) return "unknown";
    if (this.stale) return "stale";
    return frame.closed ? "closed" : (frame.health?.status ?? "unknown");
  }

  #turn(status, frame) {
    const before = this.#status;
    this.#status = status;
    document.body.dataset.health = status;
    setSign(this.#sign, SIGNS[status] ?? "none");
    const icon = status in SIGNS ? status : "unknown";
    document.querySelector("link[rel=icon]").href = `icon-${icon}.svg`;
    document.title = frame ? `${WORDS[status]} · ${frame.endpoint}` : "redisutils";
    if (before === "unknown" && status === "healthy") return; // nothing that must be said
    const reasons = FAULTS.includes(status) ? frame.health.reasons : [];
    say($("news"), [WORDS[status], ...reasons].join(". "));
  }

  #sinceWords(frame, status) {
    if (status === "signed out") return "Nothing is shown to those without the token";
    if (!frame) return this.#stream.why || "Waiting for the first second of figures";
    if (status === "stale") {
      const was = frame.closed ? "pool closed" : (frame.health?.status ?? "unknown");
      return `Last known ${lasting(this.#stream.silence)} ago: ${was}`;
    }
    if (status === "closed") return "The program has closed this pool: nothing flows any more";
    const frames = this.#history.frames;
    const other = frames.findLastIndex(
      (one) => (one.closed ? "closed" : one.health?.status) !== status,
    );
    const first = frames[other + 1];
    if (!first) return "";
    const seconds = frame.at - first.at;
    return other < 0
      ? `for ${lasting(seconds)} or longer`
      : `for ${lasting(seconds)}, since ${clock(first.at)}`;
  }

  #drawReasons(frame, status) {
    const reasons = FAULTS.includes(status) ? frame.health.reasons : [];
    $("reasons").hidden = !reasons.length; // an empty list would be read out as one
    each($("reasons"), reasons, () => el("li"), say);
  }
}

function serverLine(server) {
  if (!server) return "Server not known";
  const kind = { valkey: "Valkey", redis: "Redis" }[server.kind] ?? server.kind ?? "";
  const role = { master: "primary", slave: "replica" }[server.role] ?? server.role;
  return [
    `${kind} ${server.version ?? ""}`.trim(),
    role,
    server.uptime === null || server.uptime === undefined ? "" : `up ${lasting(server.uptime)}`,
  ]
    .filter(Boolean)
    .join(" · ");
}
