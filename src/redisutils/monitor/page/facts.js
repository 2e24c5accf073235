// Panels of facts: the server, the circuit breaker.

import { each, el, mark, say } from "./dom.js";
import { bytes, count, DASH, lasting, perSecond, share, time } from "./units.js";

// A list of facts: [label, value, {state?: good, look or bad; part?: 0 to 1, drawn as a bar}].
export class Facts {
  #view;
  #facts;
  #list = el("dl", "facts");

  constructor(host, view, title, facts) {
    this.#view = view;
    this.#facts = facts;
    host.append(el("div", "title", el("h2", "", title)), this.#list);
  }

  draw() {
    this.read();
  }

  read() {
    const frame = this.#view.shown;
    each(
      this.#list,
      frame ? this.#facts(frame) : [["Waiting for the first second", ""]],
      factItem,
      (item, [label, value, { state = "", part = null } = {}]) => {
        const [name, text, meter] = item.children;
        mark(item, "data-state", state);
        say(name, label);
        say(text, value);
        meter.hidden = part === null;
        if (part !== null) meter.firstChild.style.width = `${Math.min(1, part) * 100}%`;
      },
    );
  }
}

function factItem() {
  return el("div", "", el("dt"), el("dd"), el("dd", "meter", el("span", "fill")));
}

const level = (part, look, bad) => (part > bad ? "bad" : part > look ? "look" : "good");

export function serverFacts({ server, health }) {
  if (!server) {
    return [
      ["State", "not known", { state: "look" }],
      [
        "Why",
        health?.status === "unhealthy"
          ? "Nobody answers"
          : "The server has not told yet, or this user may not ask it (INFO)",
      ],
      ["Round trip", time(health?.round_trip)],
    ];
  }
  const memory = server.maxmemory ? server.used_memory / server.maxmemory : null;
  const clients = server.maxclients ? server.clients / server.maxclients : null;
  // A cache that evicts is meant to be full.
  const evicts = server.eviction_policy && server.eviction_policy !== "noeviction";
  const lag = server.replication_lag;
  return [
    [
      "Memory",
      server.maxmemory
        ? `${bytes(server.used_memory)} of ${bytes(server.maxmemory)}`
        : `${bytes(server.used_memory)}, no limit`,
      { part: memory, state: memory === null || evicts ? "good" : level(memory, 0.9, 0.97) },
    ],
    [
      "Clients",
      clients === null
        ? count(server.clients)
        : `${count(server.clients)} of ${count(server.maxclients)}`,
      { part: clients, state: level(clients, 0.9, 0.97) },
    ],
    ["When full", server.eviction_policy ?? DASH],
    [
      "Saves to disk",
      { ok: "ok", failing: "failing", off: "off" }[server.persistence] ?? DASH,
      { state: server.persistence === "failing" ? "bad" : "good" },
    ],
    [
      "Replicas",
      count(server.replicas) +
        (lag === null || lag === undefined ? "" : `, last heard ${time(lag)} ago`),
    ],
    ["Commands", perSecond(server.ops)],
    ["Hit rate", share(server.hit_rate)],
    ["Keys", count(server.keys)],
  ];
}

const BREAKER = {
  closed: ["closed: calls pass", "good"],
  open: ["open: calls fail at once", "bad"],
  "half-open": ["half-open: one call tries", "look"],
};

export function breakerFacts({ breaker }) {
  if (!breaker) return [["State", "not known"]];
  const [words, state] = BREAKER[breaker.state] ?? [breaker.state, "look"];
  return [
    ["State", words, { state }],
    ["For", lasting(breaker.seconds)],
    ["Failed attempts", count(breaker.failures), { state: breaker.failures ? "look" : "good" }],
    ["Trips", count(breaker.trips)],
    ["Calls refused", count(breaker.refused)],
    ["Last error", breaker.error ?? "none"],
  ];
}
