// The frames as they come, and the state of the connection that they come by.
//
// state: "connecting" (never had one yet), "live", "lost" (trying again by itself),
// "signed out" (the server wants a token: only a person can help).

const FIRST_DELAY = 500;
const MOST_DELAY = 2000;
// Without a frame for so long, what looks like a connection is none: a cable was pulled.
const SILENT = 8000;
const CHECKED = 1000;

export class Stream extends EventTarget {
  state = "connecting";
  heard = performance.now(); // when the last frame came
  #url;
  #source = null;
  #delay = FIRST_DELAY;
  #opened = 0;
  #timer = 0;

  constructor(url) {
    super();
    this.#url = url;
    this.#open();
    setInterval(() => this.#check(), CHECKED);
    addEventListener("online", () => this.#again(0));
  }

  // Seconds without a frame.
  get silence() {
    return (performance.now() - this.heard) / 1000;
  }

  #open() {
    this.#source?.close();
    this.#opened = performance.now();
    const source = new EventSource(this.#url);
    this.#source = source;
    source.addEventListener("history", (event) => this.#receive(event));
    source.addEventListener("frame", (event) => this.#receive(event));
    source.addEventListener("error", () => this.#failed());
  }

  #receive(event) {
    let frames;
    try {
      frames = [JSON.parse(event.data)].flat();
    } catch {
      return; // one bad frame is no reason to lose the next
    }
    this.#delay = FIRST_DELAY;
    if (frames.length) {
      this.heard = performance.now();
      this.#become("live");
    }
    this.dispatchEvent(new CustomEvent("frames", { detail: frames }));
  }

  // EventSource would try again by itself after most failures, but not after an answer that is
  // no stream, and does not tell which it was: so it is asked here, and always tried again here.
  async #failed() {
    const refused = this.#source.readyState === EventSource.CLOSED;
    this.#source.close();
    if (this.state === "live") this.#become("lost");
    const retry = this.#delay * (0.75 + Math.random() / 2);
    this.#delay = Math.min(this.#delay * 2, MOST_DELAY);
    this.#again(retry);
    const status = refused ? await this.#status() : 0;
    if (status === 401 || status === 403) {
      clearTimeout(this.#timer);
      this.#source.close();
      this.#become("signed out");
    }
  }

  async #status() {
    const abort = new AbortController();
    try {
      return (await fetch(this.#url, { signal: abort.signal, cache: "no-store" })).status;
    } catch {
      return 0; // nobody there
    } finally {
      abort.abort(); // if it is a stream, this one is not wanted
    }
  }

  #again(milliseconds) {
    if (this.state === "live" || this.state === "signed out") return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), milliseconds);
  }

  #check() {
    const quiet = performance.now() - Math.max(this.heard, this.#opened);
    if (quiet > SILENT && this.state !== "signed out") {
      this.#become(this.state === "connecting" ? "connecting" : "lost");
      this.#open();
    }
    this.dispatchEvent(new Event("tick"));
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
