// The containers and what they are called, fifty at a time: the page stays light whatever
// their number, and a search goes over all of them.

import { badge, byId, copyButton, count, digLine, element, matches, say } from "./dom.js";

const PAGE = 50;
const SKIPPED_MOST = 50;
const STATES = {
  all: ["All", () => true],
  running: ["Running", (container) => isRunning(container)],
  unhealthy: ["Unhealthy", (container) => container.health === "unhealthy"],
  out: ["Not running", (container) => !isRunning(container)],
};

let containers = [];
let skipped = [];
let isLoaded = false;
let hasDocker = true;
let words = [];
let state = "all";
let first = 0;
const open = new Set();
const labels = {};

const isRunning = ({ state: itsState }) => itsState === "running" || itsState === "paused";

export function start() {
  for (const [name, [text]] of Object.entries(STATES)) {
    labels[name] = element("span", {}, text);
    const radio = element("input", { type: "radio", name: "state", value: name, checked: name === state });
    radio.addEventListener("change", () => { state = name; first = 0; show(); });
    byId("states").append(element("label", {}, radio, labels[name]));
  }
  byId("earlier").addEventListener("click", () => turn(-PAGE));
  byId("later").addEventListener("click", () => turn(PAGE));
}

export function setContainers(document) {
  containers = document.containers;
  for (const container of containers) container.text = textOf(container);
  containers.sort((a, b) => isRunning(b) - isRunning(a) || a.name.localeCompare(b.name, "en", { numeric: true }));
  skipped = [...document.skipped, ...(document.faults ?? []).map(badName), ...(document.losses ?? []).map(lostName)];
  for (const one of skipped) one.text = `${one.container} ${one.id} ${one.reason}`.toLowerCase();
  isLoaded = true;
  show();
}

/** Learn whether an Engine was ever listed: without one, an empty list means nothing. */
export function setDocker(isListed) {
  if (isListed === hasDocker) return;
  hasDocker = isListed;
  show();
}

const badName = ({ container, id, text, reason }) => ({ container, id, reason: `its name ${text}: ${reason}` });

const holderOf = ({ winner, held_for, until }) => {
  if (held_for) return `held back for ${held_for} until ${new Date(until).toLocaleTimeString("en-GB")}`;
  return winner ? `that of ${winner}` : "nobody's, as several have it";
};

const lostName = (loss) => ({
  container: loss.loser,
  id: "",
  reason: `its name ${loss.owner} (${loss.rule}) is ${holderOf(loss)}`,
});

export function setSearch(newWords) {
  words = newWords;
  first = 0;
  show();
}

function textOf({ name, id, engine, state: itsState, health, names, addresses }) {
  return [name, id, engine, itsState, health, ...names.flatMap(({ name: called, rule }) => [called, rule]),
    ...addresses.flatMap(({ network, address }) => [network, address])].join(" ").toLowerCase();
}

function turn(by) {
  first += by;
  show();
  byId("containers").scrollIntoView();
  say(byId("place").textContent);
}

function show() {
  if (!isLoaded) return;
  const found = words.length ? containers.filter(({ text }) => matches(text, words)) : containers;
  for (const [name, [text, has]] of Object.entries(STATES)) {
    labels[name].textContent = `${text} ${count(found.filter(has).length)}`;
  }
  const chosen = found.filter(STATES[state][1]);
  first = Math.max(0, Math.min(first, Math.floor((chosen.length - 1) / PAGE) * PAGE));
  const shown = chosen.slice(first, first + PAGE);
  byId("containers-count").textContent = words.length ? `${count(found.length)} of ${count(containers.length)}` : count(containers.length);
  keepFocus(byId("container-list"), () => {
    byId("container-list").replaceChildren(...(shown.length ? shown.map(row) : [nothing()]));
  });
  byId("pager").hidden = chosen.length <= PAGE;
  byId("place").textContent = `${count(first + 1)} to ${count(first + shown.length)} of ${count(chosen.length)}`;
  byId("earlier").disabled = first === 0;
  byId("later").disabled = first + PAGE >= chosen.length;
  showSkipped();
}

/** Redraw a list, and put the focus back on what had it: the page changes while one reads. */
function keepFocus(list, redraw) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  redraw();
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function nothing() {
  if (containers.length) return element("li.nothing", {}, "None matches.");
  if (!hasDocker) return element("li.nothing", {}, "Containers appear here as soon as Docker is connected.");
  return element("li.nothing", {}, "No container yet. Start one, and it is here at once: ",
    element("code", {}, "docker run -d --name web nginx"));
}

function row(container) {
  const { id, name } = container;
  const summary = element("summary", {}, element("span.called", {}, name), stateOf(container),
    element("span.mono.where", {}, whereOf(container)));
  summary.dataset.key = id;
  const details = element("details", { open: open.has(id) }, summary);
  if (details.open) details.append(more(container));
  details.addEventListener("toggle", () => {
    if (details.open) open.add(id); else open.delete(id);
    if (details.open && details.children.length === 1) details.append(more(container));
  });
  const made = element(`li.container${isRunning(container) ? "" : ".is-out"}`, {}, details);
  if (isRunning(container) && container.names.length) {
    const button = copyButton("Copy dig", () => digLine(container.names[0].name), name);
    button.dataset.key = `dig ${id}`;
    made.append(button);
  }
  return made;
}

function whereOf({ addresses, cname, on_host: isOnHost }) {
  if (cname) return `→ ${cname}`;
  if (isOnHost) return "the host's";
  return [...new Set(addresses.map(({ address }) => address))].join("  ") || "–";
}

function stateOf({ state: itsState, health }) {
  if (health === "unhealthy") return badge("bad", "unhealthy");
  if (itsState === "running") return badge(health === "starting" ? "warn" : "good", health || "running");
  return badge("quiet", itsState);
}

function more(container) {
  const { id, engine, names, addresses, ttl } = container;
  return element("div.more", {},
    element("h3", {}, names.length ? `Names, answered for ${ttl} s` : "Names"),
    element("ul", {}, ...names.map(({ name, rule }) => {
      const button = copyButton("Copy dig", () => digLine(name), name);
      button.dataset.key = `dig ${id} ${name}`;
      return element("li", {}, element("span.mono", {}, name), element("span.note", {}, rule), button);
    }), names.length ? null : element("li.quiet", {}, `none: ${container.unanswered || "it does not run"}`)),
    element("h3", {}, "Addresses by network"),
    element("ul", {}, ...addresses.map(({ network, address }) =>
      element("li", {}, element("span.mono", {}, address), element("span.note", {}, network))),
    addresses.length ? null : element("li.quiet", {}, container.cname ? `those of ${container.cname}` : container.on_host ? "that of the host" : "none")),
    element("h3", {}, "Docker"),
    element("ul", {}, element("li", {}, element("span.mono", {}, id), element("span.note", {}, engine))));
}

function showSkipped() {
  const found = skipped.filter(({ text }) => matches(text, words));
  byId("skipped").hidden = !found.length;
  byId("skipped-count").textContent = count(found.length);
  byId("skipped-list").replaceChildren(...found.slice(0, SKIPPED_MOST).map(({ container, id, reason }) =>
    element("li", {}, element("span.rank", {}, ""), element("span.mono", {}, container), element("span.note.mono", {}, id),
      element("span.under", {}, reason))));
  if (found.length > SKIPPED_MOST) {
    byId("skipped-list").append(element("li.quiet", {}, `and ${count(found.length - SKIPPED_MOST)} more; search for one`));
  }
}
