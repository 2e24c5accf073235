// Making and changing elements. Whatever came from the server becomes text, never markup.

export const $ = (id) => document.getElementById(id);

// el("p", "note", "text", child, …): an element with a class ("" for none) and its children.
export function el(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function attributes(node, values) {
  for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
  return node;
}

// Touches the document only when something is new: a page that stays open repaints little.
export function say(node, text) {
  const string = String(text);
  if (node.textContent !== string) node.textContent = string;
}

export function mark(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// One child of `parent` for each item, made once and changed in place ever after, so that
// a selection or a focus in them survives the next second.
export function each(parent, items, make, change) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, n) => {
    const child = parent.children[n] ?? parent.appendChild(make(item));
    change(child, item);
  });
}

// A table that scrolls sideways where it must. titles: [text or button, class]; rows are `body`'s.
export function table(caption, titles, body, className = "") {
  const cells = titles.map(([title, kind = ""]) => {
    return title ? attributes(el("th", kind, title), { scope: "col" }) : el("td", kind);
  });
  const head = el("thead", "", el("tr", "", ...cells));
  return el("div", "scroll", el("table", className, el("caption", "sr", caption), head, body));
}
