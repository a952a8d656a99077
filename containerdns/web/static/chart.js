// Answers per second by outcome, for the last five minutes, as stacked areas.

import { byId, count, element } from "./dom.js";

export const OUTCOMES = {
  zone: "zone",
  cache: "cache",
  upstream: "upstream",
  kept: "kept from upstream",
  refused: "refused",
};
const KEPT = 300;  // seconds, and points
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

const points = [];
const paths = {};
const values = {};
let topLine;
let picture;
let pointed = null;

export function drawFrame() {
  picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${KEPT} ${HEIGHT}`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", "Answers per second by outcome, for five minutes");
  for (const outcome of Object.keys(OUTCOMES)) {
    paths[outcome] = document.createElementNS(SVG, "path");
    paths[outcome].setAttribute("class", `of-${outcome}`);
    picture.append(paths[outcome]);
    values[outcome] = element("b");
    byId("legend").append(element("li", {}, element(`span.swatch.of-${outcome}`), OUTCOMES[outcome], values[outcome]));
  }
  topLine = element("span.top-line");
  const since = element("span.since", {}, "5 min ago");
  byId("chart").replaceChildren(topLine, picture, since, element("span.until", {}, "now"));
  byId("chart").addEventListener("pointermove", (event) => {
    const { left, width } = byId("chart").getBoundingClientRect();
    pointed = Math.floor(((event.clientX - left) / width) * KEPT) - KEPT;
    showValues();
  });
  byId("chart").addEventListener("pointerleave", () => { pointed = null; showValues(); });
  draw();
}

export function setPoints(all) {
  points.splice(0, points.length, ...all);
  draw();
}

export function addPoint(point) {
  points.push(point);
  if (points.length > KEPT) points.shift();
  draw();
}

const total = (point) => Object.keys(OUTCOMES).reduce((sum, outcome) => sum + (point?.[outcome] ?? 0), 0);

function draw() {
  const most = roundUp(Math.max(4, ...points.map(total)));
  topLine.textContent = count(most);
  const floor = points.map(() => 0);
  for (const [outcome, path] of Object.entries(paths)) {
    const upper = points.map((point, index) => floor[index] + (point[outcome] ?? 0));
    path.setAttribute("d", area(floor, upper, most));
    upper.forEach((height, index) => { floor[index] = height; });
  }
  showValues();
}

function area(floor, upper, most) {
  if (!points.length) return "";
  const x = (index) => KEPT - points.length + index;
  const y = (height) => (HEIGHT - (height / most) * HEIGHT).toFixed(2);
  const above = upper.map((height, index) => `L${x(index)} ${y(height)}H${x(index) + 1}`);
  const below = floor.map((height, index) => `L${x(index) + 1} ${y(height)}H${x(index)}`).reverse();
  return `M${x(0)} ${y(floor[0])}${above.join("")}${below.join("")}Z`;
}

/** Show the values at the pointer in the legend, or else the latest ones. */
function showValues() {
  const point = pointed === null ? points.at(-1) : points.at(pointed);
  const isThere = pointed === null || -pointed <= points.length;
  for (const [outcome, value] of Object.entries(values)) {
    value.textContent = isThere ? count(point?.[outcome] ?? 0) : "–";
  }
  byId("rate").textContent = isThere ? count(total(point)) : "–";
}

/** The next of 1, 2, 5, 10, 20, 50, ... */
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= number);
}
