// The busiest commands, sortable; and the slowest of the last minutes.

import { attributes, each, el, mark, say } from "./dom.js";
import { fillBar, partsBar } from "./parts.js";
import { bytes, clock, count, perSecond, time } from "./units.js";

const COLUMNS = [
  { key: "name", title: "Command", text: (command) => command.name },
  { key: "rate", title: "Calls", text: (command) => perSecond(command.rate) },
  { key: "mean", title: "Mean", text: (command) => time(command.mean) },
  { key: "p50", title: "p50", text: (command) => time(command.p50) },
  { key: "p99", title: "p99", text: (command) => time(command.p99) },
  {
    key: "errors",
    title: "Errors",
    text: (command) => (command.errors ? perSecond(command.errors) : "0"),
  },
];

export class Commands {
  #view;
  #body = el("tbody");
  #head = el("tr");
  #by = "rate";
  #down = true;

  constructor(host, view) {
    this.#view = view;
    for (const { key, title } of COLUMNS) {
      const button = attributes(el("button", "sort", title), { type: "button" });
      button.addEventListener("click", () => this.#sort(key));
      this.#head.append(
        attributes(el("th", key === "name" ? "" : "figure", button), { scope: "col" }),
      );
    }
    this.#head.append(attributes(el("th", "", "Made of"), { scope: "col" }));
    const table = el(
      "table",
      "",
      el("caption", "sr", "Commands"),
      el("thead", "", this.#head),
      this.#body,
    );
    host.append(el("div", "title", el("h2", "", "Commands")), el("div", "scroll", table));
    this.#sort("rate");
  }

  draw() {
    this.read();
  }

  read() {
    const commands = [...(this.#view.shown?.commands ?? [])].sort((a, b) => this.#compare(a, b));
    each(this.#body, commands.length ? commands : [null], commandRow, (row, command) => {
      const cells = [...row.children];
      mark(row, "data-state", command ? "good" : "none");
      COLUMNS.forEach(({ text }, n) =>
        say(cells[n], command ? text(command) : n ? "" : "No commands in this second"),
      );
      cells[5].classList.toggle("alarm", Boolean(command?.errors));
      cells[6].firstChild.hidden = !command;
      if (command) fillBar(cells[6].firstChild, command.split);
    });
  }

  // Nearly equal rows keep their order from second to second: two digits count.
  #compare(a, b) {
    const rank = (command) =>
      this.#by === "name" ? command.name : Number((command[this.#by] ?? -1).toPrecision(2));
    const [x, y] = [rank(a), rank(b)];
    const order = x < y ? -1 : x > y ? 1 : 0;
    return (this.#down ? -order : order) || (a.name < b.name ? -1 : 1);
  }

  #sort(key) {
    this.#down =
      this.#by === key && key !== "rate"
        ? !this.#down
        : this.#by === key
          ? this.#down
          : key !== "name";
    this.#by = key;
    COLUMNS.forEach((column, n) => {
      if (column.key === key)
        mark(this.#head.children[n], "aria-sort", this.#down ? "descending" : "ascending");
      else this.#head.children[n].removeAttribute("aria-sort");
    });
    this.read();
  }
}

function commandRow() {
  const cells = COLUMNS.slice(1).map(() => el("td", "figure"));
  return el(
    "tr",
    "",
    attributes(el("th"), { scope: "row" }),
    ...cells,
    el("td", "made", partsBar()),
  );
}

const SLOW_ROWS = 12;
const SLOW_TITLES = [
  ["When"],
  ["Command"],
  ["Key"],
  ["Sent", "figure"],
  ["Answer", "figure"],
  ["Took", "figure"],
  ["Made of"],
];

export class Slow {
  #view;
  #body = el("tbody");

  constructor(host, view) {
    this.#view = view;
    const titles = SLOW_TITLES.map(([title, kind = ""]) =>
      attributes(el("th", kind, title), { scope: "col" }),
    );
    titles[4].title = "Bytes of a string, elements of a collection";
    const table = el(
      "table",
      "",
      el("caption", "sr", "The slowest commands of the last minutes"),
      el("thead", "", el("tr", "", ...titles)),
      this.#body,
    );
    host.append(
      el(
        "div",
        "title",
        el("h2", "", "Slow commands"),
        el("p", "aside", "slowest of the last minutes"),
      ),
      el("div", "scroll", table),
    );
  }

  draw() {
    this.read();
  }

  read() {
    const slow = (this.#view.all.at(-1)?.slow ?? []).slice(0, SLOW_ROWS);
    each(this.#body, slow.length ? slow : [null], slowRow, (row, entry) => {
      const cells = [...row.children];
      mark(row, "data-state", entry ? "good" : "none");
      const texts = entry
        ? [
            clock(entry.at),
            entry.command,
            entry.key ?? "–",
            bytes(entry.request_bytes),
            count(entry.reply_size),
            time(entry.seconds),
          ]
        : ["Nothing yet", "", "", "", "", ""];
      texts.forEach((text, n) => say(cells[n], text));
      mark(cells[2], "title", entry?.key ?? "");
      cells[6].firstChild.hidden = !entry;
      if (entry) fillBar(cells[6].firstChild, entry.split);
    });
  }
}

function slowRow() {
  const kinds = ["moment", "command", "key", "figure", "figure", "figure strong"];
  return el("tr", "", ...kinds.map((kind) => el("td", kind)), el("td", "made", partsBar()));
}
