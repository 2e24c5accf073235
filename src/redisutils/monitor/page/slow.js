// The slowest commands of the last minutes.

import { each, el, mark, say, table } from "./dom.js";
import { fillBar, partsBar } from "./parts.js";
import { bytes, clock, count, DASH, time } from "./units.js";

const ROWS = 12;
const COLUMNS = [
  { title: "When", text: (entry) => clock(entry.at) },
  { title: "Took", kind: "figure strong", text: (entry) => time(entry.seconds) },
  { title: "Command", text: (entry) => entry.command },
  { title: "Node", kind: "node", text: (entry) => entry.server || DASH },
  { title: "Key", kind: "key", text: (entry) => entry.key ?? DASH },
  { title: "Sent", kind: "figure", text: (entry) => bytes(entry.request_bytes) },
  { title: "Answer", kind: "figure", text: (entry) => count(entry.reply_size) },
];
const KEY = 4;
const ANSWER = 6;

export class Slow {
  #host;
  #view;
  #body = el("tbody");

  constructor(host, view) {
    this.#host = host;
    this.#view = view;
    const about = el("p", "aside", "slowest of the last minutes");
    const titles = COLUMNS.map(({ title, kind = "" }) => [title, kind.replace("strong", "")]);
    host.append(
      el("div", "title", el("h2", "", "Slow commands"), about),
      table("The slowest commands of the last minutes", [...titles, ["Made of"]], this.#body),
    );
  }

  draw() {
    this.read();
  }

  read() {
    // Only the newest frame tells of them: see history.js.
    const frame = this.#view.all.at(-1);
    const slow = (frame?.slow ?? []).slice(0, ROWS);
    mark(this.#host, "data-nodes", frame?.nodes?.length > 1 ? "several" : "one");
    each(this.#body, slow.length ? slow : [null], slowRow, (row, entry) => {
      const cells = [...row.children];
      mark(row, "data-state", entry ? "good" : "none");
      COLUMNS.forEach(({ text }, n) => say(cells[n], entry ? text(entry) : n ? "" : "Nothing yet"));
      mark(cells[KEY], "title", entry?.key ?? "");
      const [bar] = cells.at(-1).children;
      bar.hidden = !entry;
      if (entry) fillBar(bar, entry.split);
    });
  }
}

function slowRow() {
  const cells = COLUMNS.map(({ kind = "" }) => el("td", kind));
  cells[ANSWER].title = "Bytes of a string, elements of a collection";
  return el("tr", "", ...cells, el("td", "made", partsBar()));
}
