// Who is slow: Redis, the network, the pool or the program? Each of the four is judged by what
// only it can be guilty of, in one word and the three figures that the word stands on.

import { each, el, mark, say } from "./dom.js";
import { stateOf } from "./nodes.js";
import { totalOf, usual } from "./parts.js";
import { setSign, sign } from "./signs.js";
import { bytes, count, perSecond, plural, share, time } from "./units.js";

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

// Below this nobody calls a p99 slow, whatever it is made of.
const SLOW = 0.002;

// What the four judges look at.
function evidence(view) {
  const frame = view.shown;
  const recent = view.recent();
  const split = usual(recent, "p99");
  const total = totalOf(split);
  const of = (...keys) => (total ? keys.reduce((sum, key) => sum + split[key], 0) / total : null);
  const trips = view.all.map((one) => one.health?.round_trip).filter((trip) => trip > 0);
  // Of several servers one may be dead, and the others serve.
  const nodes = view.all.at(-1)?.nodes ?? [];
  const open = frame.breaker?.state === "open" && nodes.length < 2;
  const dead = open || frame.health?.status === "unhealthy";
  return {
    frame,
    nodes,
    p99: total,
    wire: of("wire"),
    wait: of("wait"),
    own: of("queue", "loop", "parse"),
    trip: frame.health?.round_trip ?? null,
    usual: trips.length ? median(trips) : null,
    dead,
    refused:
      dead && /refused/i.test([...(frame.health?.reasons ?? []), frame.breaker?.error].join(" ")),
  };
}

const GOOD = (word = "fine") => ["good", word];
const LOOK = (word) => ["look", word];
const BAD = (word) => ["bad", word];
const NONE = (word) => ["none", word];

function redis({ frame, nodes, wire, p99, trip, dead, refused }) {
  const server = frame.server;
  if (frame.closed) return NONE("not asked");
  const down = nodes.filter((node) => stateOf(node)[0] === "bad").length;
  if (down) return BAD(`${count(down)} of ${plural(nodes.length, "node")} down`);
  if (refused) return BAD("refuses connections");
  if (!server) return dead ? BAD("no answer") : NONE("not known yet");
  if (server.loading) return BAD("loading its data");
  if (server.persistence === "failing") return BAD("cannot save");
  const memory = server.maxmemory ? server.used_memory / server.maxmemory : 0;
  if (memory > 0.9 && server.eviction_policy === "noeviction") {
    return (memory > 0.97 ? BAD : LOOK)(`memory ${share(memory)} full`);
  }
  if (server.maxclients && server.clients / server.maxclients > 0.9)
    return LOOK("clients near the limit");
  if (dead) return BAD("no answer");
  // A PING is quick, and commands are not: they are work for the server.
  if (wire > 0.6 && p99 > SLOW && trip !== null && p99 > 8 * trip) return LOOK("slow answers");
  return GOOD();
}

function network({ trip, usual, frame, dead, refused }) {
  if (frame.closed) return NONE("not asked");
  if (refused) return GOOD("reaches the host");
  if (trip === null) return dead ? BAD("no answer") : NONE("not known yet");
  if (usual !== null && trip > Math.max(4 * usual, usual + 0.001)) return LOOK("slower than usual");
  if (trip > 0.05) return LOOK("far away");
  return GOOD();
}

function pool({ frame, wait, p99, dead }) {
  const { in_use: used, max_size: most, waiting } = frame.pool ?? {};
  if (frame.closed) return NONE("closed");
  const lanes = frame.lanes ?? [];
  const down = lanes.filter((lane) => !lane.connected).length;
  if (down)
    return (dead ? LOOK : BAD)(
      down === lanes.length ? "not connected" : `${plural(down, "lane")} down`,
    );
  if (waiting > 0 && used >= most) return BAD(`full, ${count(waiting)} waiting`);
  if (lanes.some((lane) => lane.blocked)) return LOOK("a lane is full");
  if (waiting > 0) return LOOK(`${count(waiting)} waiting`);
  if (wait > 0.4 && p99 > SLOW) return LOOK("callers wait");
  return GOOD();
}

function program({ frame, own, p99 }) {
  const { loop_lag_p99: lag, gc_pause_max: pause, cpu } = frame.process ?? {};
  if (lag > 0.1) return BAD(`loop held up ${time(lag)}`);
  if (pause > 0.05) return LOOK(`collector paused ${time(pause)}`);
  if (cpu > 0.95) return LOOK("its core is full");
  if (lag > 0.02) return LOOK(`loop held up ${time(lag)}`);
  if (own > 0.5 && p99 > SLOW) return LOOK("keeps answers waiting");
  if (lag === undefined || lag === null) return NONE("not known yet");
  return GOOD();
}

const SUSPECTS = [
  {
    name: "Redis",
    judge: redis,
    facts: ({ frame: { server } }) => [
      ["serves", perSecond(server?.ops)],
      [
        "memory",
        server?.maxmemory
          ? share(server.used_memory / server.maxmemory)
          : bytes(server?.used_memory),
      ],
      ["clients", count(server?.clients)],
    ],
  },
  {
    name: "Network",
    judge: network,
    facts: ({ trip, usual, wire }) => [
      ["round trip", time(trip)],
      ["usual", time(usual)],
      ["share of p99, with Redis", share(wire)],
    ],
  },
  {
    name: "Pool",
    own: "Monitor's pool",
    judge: pool,
    facts: ({ frame, wait }) => [
      ["in use", `${count(frame.pool?.in_use)} of ${count(frame.pool?.max_size)}`],
      ["waiting", count(frame.pool?.waiting)],
      ["share of p99", share(wait)],
    ],
  },
  {
    name: "Program",
    own: "Monitor's process",
    judge: program,
    facts: ({ frame, own }) => [
      ["loop lag p99", time(frame.process?.loop_lag_p99)],
      ["core", share(frame.process?.cpu)],
      ["share of p99", share(own)],
    ],
  },
];

export class Suspects {
  #view;
  #host;

  constructor(host, view) {
    this.#host = host;
    this.#view = view;
  }

  draw() {
    this.read();
  }

  read() {
    const known = this.#view.shown ? evidence(this.#view) : null;
    each(this.#host, SUSPECTS, card, (node, { name, own, judge, facts }) => {
      const [state, word] = known ? judge(known) : NONE("waiting");
      const [title, list] = node.children;
      mark(node, "data-state", state);
      setSign(title.firstChild, state);
      say(title.children[1], known?.frame.sidecar ? (own ?? name) : name);
      say(title.lastChild, word);
      each(list, known ? facts(known) : [["", "–"]], fact, (item, [label, value]) => {
        say(item.firstChild, label);
        say(item.lastChild, value);
      });
    });
  }
}

function card({ name }) {
  return el("article", "suspect", el("h2", "", sign(), el("span", "", name), " ", el("b")), el("dl"));
}

function fact() {
  return el("div", "", el("dt"), el("dd"));
}
