// Buttons and keys.

import { $, mark, say } from "./dom.js";
import { isDark, toggleTheme } from "./theme.js";
import { clock, lasting } from "./units.js";

const FAR = 10; // frames, with Shift

export function controls(view) {
  const range = (seconds) => () => view.setRange(seconds);
  const pause = () => view.setPaused(!view.paused);
  const actions = {
    ArrowLeft: (event) => view.step(event.shiftKey ? -FAR : -1),
    ArrowRight: (event) => view.step(event.shiftKey ? FAR : 1),
    Home: () => view.pin(view.frames[0]?.at ?? null),
    End: () => view.pin(null),
    Escape: () => view.pin(null),
    " ": pause,
    1: range(60),
    5: range(300),
    t: toggleTheme,
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    if (target.closest("input, select, textarea, .scroll")) return;
    if (event.key === " " && target.closest("button, a, summary")) return; // it presses that
    const action = actions[event.key] ?? actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
  $("range-1").addEventListener("click", range(60));
  $("range-5").addEventListener("click", range(300));
  $("pause").addEventListener("click", pause);
  $("theme").addEventListener("click", toggleTheme);
  $("earlier").addEventListener("click", () => view.step(-1));
  $("later").addEventListener("click", () => view.step(1));
  $("now").addEventListener("click", () => view.pin(null));
}

export function drawControls(view) {
  mark($("range-1"), "aria-pressed", view.range === 60);
  mark($("range-5"), "aria-pressed", view.range === 300);
  mark($("pause"), "aria-pressed", Boolean(view.paused));
  say($("pause"), view.paused ? "Resume" : "Pause");
  document.body.classList.toggle("paused", Boolean(view.paused));
  say($("theme"), isDark() ? "Light" : "Dark");
  const { at, shown, until } = view;
  $("moment").hidden = at === null;
  if (at !== null)
    say(
      $("moment-words"),
      `${clock(shown.at)}, ${lasting(until - shown.at)} before ${view.paused ? "the pause" : "now"}`,
    );
}
