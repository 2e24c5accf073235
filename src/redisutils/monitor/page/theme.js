// Light and dark: as the system has it, until somebody chooses; and the colours for canvases.

const KEY = "redisutils.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const listeners = [];
const inks = new Map();
let chosen = null;

try {
  chosen = localStorage.getItem(KEY);
} catch {
  // Storage may be forbidden; the choice then lasts as long as the page.
}
apply();
system.addEventListener("change", changed);

export const isDark = () => (chosen ? chosen === "dark" : system.matches);

export function toggleTheme() {
  chosen = isDark() ? "light" : "dark";
  // A choice that agrees with the system follows it again.
  if ((chosen === "dark") === system.matches) chosen = null;
  try {
    if (chosen) localStorage.setItem(KEY, chosen);
    else localStorage.removeItem(KEY);
  } catch {
    // As above.
  }
  changed();
}

export function onTheme(listener) {
  listeners.push(listener);
}

// The colour of a variable of style.css, as a canvas takes it.
export function ink(name) {
  let colour = inks.get(name);
  if (!colour) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    colour = getComputedStyle(probe).color;
    probe.remove();
    inks.set(name, colour);
  }
  return colour;
}

function apply() {
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
}

function changed() {
  apply();
  inks.clear();
  for (const listener of listeners) listener();
}
