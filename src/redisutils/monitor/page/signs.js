// Signs that tell by their shape what their colour says. They are drawn here, and not fetched: the
// one that says that the server is gone could not come from it.

const SVG = "http://www.w3.org/2000/svg";
const ROUND = "M16 1.5a14.5 14.5 0 1 0 0 29a14.5 14.5 0 1 0 0-29z";
const SHAPES = {
  good: `${ROUND}M8.1 17.6l2.5-2.4 3.5 3.5 7.4-8.2 2.5 2.3-9.8 10.9z`,
  look:
    "M16 2c.9 0 1.6.4 2 1.2l12.5 22.9c.9 1.6-.3 3.4-2 3.4h-25c-1.7 0-2.9-1.8-2-3.4L14 3.2" +
    "c.4-.8 1.1-1.2 2-1.2zM14.3 10.5h3.4v9.5h-3.4zM14.3 22.5h3.4v3.4h-3.4z",
  bad:
    "M10 1.5h12l8.5 8.5v12l-8.5 8.5h-12l-8.5-8.5v-12z" +
    "M11.4 9L9 11.4l4.6 4.6L9 20.6l2.4 2.4 4.6-4.6 4.6 4.6 2.4-2.4-4.6-4.6 4.6-4.6L20.6 9 16 13.6z",
  none: `${ROUND}M9 14.3h14v3.4h-14z`,
};

export function sign() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 32 32");
  svg.setAttribute("class", "sign");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

// state: good, look, bad or none.
export function setSign(svg, state) {
  if (svg.firstChild.getAttribute("d") !== SHAPES[state]) {
    svg.firstChild.setAttribute("d", SHAPES[state]);
  }
}
