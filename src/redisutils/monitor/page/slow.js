// The slowest commands of the last minutes.

import { each, el, mark, say, table } from "./dom.js";
import { fillBar, partsBar } from "./parts.js";
import { bytes, clock, count, time } from "./units.js";

const ROWS = 12;
const TITLES = [
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
    const about = el("p", "aside", "slowest of the last minutes");
    host.append(
      el("div", "title", el("h2", "", "Slow commands"), about),
      table("The slowest commands of the last minutes", TITLES, this.#body),
    );
  }

  draw() {
    this.read();
  }

  read() {
    // Only the newest frame tells of them: see history.js.
    const slow = (this.#view.all.at(-1)?.slow ?? []).slice(0, ROWS);
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
      mark(cells[4], "title", "Bytes of a string, elements of a collection");
      cells[6].firstChild.hidden = !entry;
      if (entry) fillBar(cells[6].firstChild, entry.split);
    });
  }
}

function slowRow() {
  const kinds = ["moment", "command", "key", "figure", "figure", "figure strong"];
  return el("tr", "", ...kinds.map((kind) => el("td", kind)), el("td", "made", partsBar()));
}
