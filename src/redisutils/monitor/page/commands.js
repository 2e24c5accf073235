// The busiest commands, sortable.

import { attributes, each, el, mark, say, table } from "./dom.js";
import { fillBar, partsBar } from "./parts.js";
import { perSecond, time } from "./units.js";

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
  #head;
  #by = "";
  #down = true;

  constructor(host, view) {
    this.#view = view;
    const titles = COLUMNS.map(({ key, title }) => {
      const button = attributes(el("button", "sort", title), { type: "button" });
      button.addEventListener("click", () => this.#sort(key));
      return [button, key === "name" ? "" : "figure"];
    });
    const whole = table("Commands", [...titles, ["Made of"]], this.#body);
    this.#head = whole.querySelector("thead tr");
    host.append(el("div", "title", el("h2", "", "Commands")), whole);
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
    // The same again turns it round; figures begin with the largest.
    this.#down = this.#by === key ? !this.#down : key !== "name";
    this.#by = key;
    COLUMNS.forEach((column, n) => {
      const title = this.#head.children[n];
      if (column.key === key) mark(title, "aria-sort", this.#down ? "descending" : "ascending");
      else title.removeAttribute("aria-sort");
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
