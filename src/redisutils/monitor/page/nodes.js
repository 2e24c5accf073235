// The servers behind a pool that has several: who owns which slots, and how each of them does.

import { attributes, each, el, mark, say, table } from "./dom.js";
import { bytes, count, DASH, perSecond, plural, share, time } from "./units.js";

// Up to so many are shown with those replicas, too, about which there is nothing to say.
const FEW = 24;
// From so many on, those that somebody should look at come first.
const MANY = 12;

const isReplica = (node) => node.role === "replica";

export function stateOf(node) {
  const open = node.breaker === "open";
  if (!node.reachable && isReplica(node)) return ["bad", "replica, offline"];
  if (!node.reachable || open) return ["bad", open ? "down, breaker open" : "down"];
  if (node.breaker === "half-open") return ["look", "down, is being tried"];
  if (node.status === "unhealthy") return ["bad", "does not serve"];
  if (node.status === "degraded") return ["look", "degraded"];
  if (isReplica(node)) return ["good", node.connected ? "replica, read from" : "replica"];
  return ["good", node.status === "healthy" ? "healthy" : "not asked yet"];
}

const lagOf = (node) => {
  if (!isReplica(node)) return "";
  if (node.lag === null && node.behind === null) return DASH;
  return [
    node.lag === null ? "" : `heard ${node.lag < 1 ? "now" : `${time(node.lag)} ago`}`,
    node.behind ? `${bytes(node.behind)} unconfirmed` : "",
  ]
    .filter(Boolean)
    .join(", ");
};

export class Nodes {
  #host;
  #view;
  #aside = el("p", "aside");
  #more = attributes(el("button", "quiet", "Show replicas"), { type: "button" });
  #all = false;
  #map = attributes(el("div", "slotmap"), { role: "img", "aria-label": "Owners of slots" });
  #body = el("tbody");

  constructor(host, view) {
    this.#host = host;
    this.#view = view;
    this.#more.addEventListener("click", () => {
      this.#all = !this.#all;
      this.read();
    });
    const titles = [
      ["Node"],
      ["State"],
      ["Slots", "figure"],
      ["Commands", "figure"],
      [""],
      ["p99", "figure"],
      ["In flight", "figure"],
      ["Connections", "figure"],
      ["Lag", "lag"],
    ];
    host.append(
      el("div", "title", el("h2", "", "Nodes"), this.#aside, this.#more),
      this.#map,
      table("Nodes", titles, this.#body, "lanes nodes"),
    );
  }

  draw() {
    this.read();
  }

  read() {
    // Only the newest frame tells of them: see history.js.
    const frame = this.#view.all.at(-1);
    const nodes = frame?.nodes ?? [];
    this.#host.hidden = nodes.length < 2;
    if (this.#host.hidden) return;
    const calm = (node) => isReplica(node) && stateOf(node)[0] === "good";
    const folded = nodes.length > FEW && !this.#all;
    let shown = folded ? nodes.filter((node) => !calm(node)) : [...nodes];
    if (nodes.length > MANY) {
      const rank = (node) => ["bad", "look", "good"].indexOf(stateOf(node)[0]);
      shown = shown.sort((a, b) => rank(a) - rank(b));
    }
    this.#drawTitle(nodes, frame.nodes_in_all);
    this.#drawMap(nodes);
    const most = Math.max(...nodes.map((node) => node.rate), 1e-9);
    each(this.#body, shown, nodeRow, (row, node) => changeNode(row, node, most));
  }

  #drawTitle(nodes, all) {
    const replicas = nodes.filter(isReplica);
    const primaries = nodes.filter((node) => node.role === "primary");
    const down = nodes.filter((node) => stateOf(node)[0] === "bad");
    const owned = nodes.reduce((sum, node) => sum + (node.slots ?? 0), 0);
    const words = [plural(primaries.length, "primary", "primaries"), plural(replicas.length, "replica")];
    if (owned > 0) words.push(owned > 0.9999 ? "all slots owned" : `${share(1 - owned)} of the slots without an owner`);
    if (down.length) words.push(`${count(down.length)} down`);
    if (all > nodes.length) words.push(`${count(all - nodes.length)} more not shown`);
    say(this.#aside, words.join(" · "));
    this.#more.hidden = nodes.length <= FEW || !replicas.length;
    say(this.#more, this.#all ? "Hide replicas" : "Show replicas");
    mark(this.#more, "aria-pressed", this.#all);
  }

  // All slots from left to right, as wide as each owner's part; what nobody owns is hatched.
  #drawMap(nodes) {
    const owners = nodes.filter((node) => node.slots);
    this.#map.hidden = !owners.length;
    each(
      this.#map,
      owners,
      () => el("span"),
      (piece, node) => {
        const [state, words] = stateOf(node);
        mark(piece, "data-state", state);
        mark(piece, "title", `${node.endpoint}: slots ${node.ranges} (${share(node.slots)}), ${words}`);
        piece.style.width = `${node.slots * 100}%`;
      },
    );
    const lost = owners.filter((node) => stateOf(node)[0] === "bad");
    mark(
      this.#map,
      "aria-label",
      `${plural(owners.length, "owner")} of slots, ${lost.length ? `${count(lost.length)} down` : "none down"}`,
    );
  }
}

function nodeRow() {
  return el(
    "tr",
    "",
    attributes(el("th"), { scope: "row" }),
    el("td", "state"),
    el("td", "figure"),
    el("td", "figure"),
    el("td", "meter", el("span", "fill")),
    el("td", "figure"),
    el("td", "figure"),
    el("td", "figure"),
    el("td", "lag"),
  );
}

function changeNode(row, node, most) {
  const [name, state, slots, rate, meter, p99, flight, size, lag] = row.children;
  const [tone, words] = stateOf(node);
  mark(row, "data-state", tone);
  mark(row, "data-role", node.role ?? "");
  say(name, node.endpoint);
  mark(name, "title", [node.role, node.follows && `of ${node.follows}`, node.zone].filter(Boolean).join(", "));
  say(state, words);
  say(slots, node.slots ? share(node.slots) : "");
  mark(slots, "title", node.ranges ? `slots ${node.ranges}` : "");
  const quiet = isReplica(node) && !node.connected; // there is nothing to say
  say(rate, quiet ? "" : perSecond(node.rate));
  meter.firstChild.hidden = !node.rate;
  meter.firstChild.style.width = `${(node.rate / most) * 100}%`;
  say(p99, quiet ? "" : time(node.p99));
  say(flight, quiet ? "" : count(node.in_flight));
  const waiting = node.waiting ? `, ${count(node.waiting)} waiting` : "";
  say(size, quiet ? "" : count(node.size) + waiting);
  say(lag, lagOf(node));
}
