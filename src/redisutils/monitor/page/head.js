// The header: health in words, colour and sign, and whether this page itself still hears.
// It is always about now, also when the plots stand still or show another moment.

import { $, each, el, mark, say } from "./dom.js";
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
const ICONS = { healthy: "healthy", degraded: "degraded", unhealthy: "unhealthy" };
for (const name of Object.values(ICONS)) new Image().src = `icon-${name}.svg`; // at hand when it matters

export class Head {
  #history;
  #stream;
  #status = "unknown";

  constructor(history, stream) {
    this.#history = history;
    this.#stream = stream;
    const signIn = () => location.reload();
    $("banner").addEventListener("click", (event) => event.target.closest("button") && signIn());
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
    this.#drawLink(frame);
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
    document.querySelector("link[rel=icon]").href = `icon-${ICONS[status] ?? "unknown"}.svg`;
    document.title = frame ? `${WORDS[status]} · ${frame.endpoint}` : "redisutils";
    if (before === "unknown" && status === "healthy") return; // nothing that must be said
    const reasons = FAULTS.includes(status) ? frame.health.reasons : [];
    say($("news"), [WORDS[status], ...reasons].join(". "));
  }

  #sinceWords(frame, status) {
    if (status === "signed out") return "Nothing is shown to those without the token";
    if (!frame) return "Waiting for the first second of figures";
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
    each($("reasons"), reasons, () => el("li"), say);
  }

  #drawLink(frame) {
    const { state, silence } = this.#stream;
    const { stale } = this;
    const ended = Boolean(frame?.closed);
    const link = ended ? "ended" : state === "live" && stale ? "stale" : state.replace(" ", "-");
    mark(document.body, "data-link", link);
    say(
      $("link-words"),
      {
        live: "live",
        stale: `stale for ${lasting(silence)}`,
        ended: "ended",
        lost: "reconnecting",
        connecting: silence > STALE ? "no answer yet" : "connecting",
        "signed-out": "signed out",
      }[link],
    );
    const banner = $("banner");
    const gone = {
      lost: "The dashboard’s own server does not answer: trying again by itself.",
      stale: "No figures come, though the connection stands.",
    }[link];
    banner.hidden = !((gone && stale) || link === "signed-out");
    if (link === "signed-out") {
      if (!banner.querySelector("button")) {
        banner.replaceChildren(
          "The server asks for its token again. ",
          el("button", "", "Sign in"),
        );
      }
    } else if (gone && stale) {
      say(banner, `${gone} What is below ended at ${clock(frame.at)}, ${lasting(silence)} ago.`);
    }
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
