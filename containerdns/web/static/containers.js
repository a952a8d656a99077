// The containers and what they are called, by Compose project: ten rows, so that what is below
// stays near, then fifty at a time: the page stays light whatever their number, and a search
// goes over all of them.

import { badge, byId, copyButton, count, element, matches, say, wholeName } from "./dom.js";
import * as address from "./address.js";

const FEW = 10;
const PAGE = 50;
const MAX_LINKS = 4;  // of a name
const HTTPS = new Set([443, 8443, 9443]);
// Ports of databases and the like: a browser gets nothing there.
const NO_PAGES = new Set([21, 22, 23, 25, 53, 110, 143, 389, 465, 587, 636, 853, 993, 995, 1433, 1521, 1883, 2181,
  3306, 4222, 5432, 5672, 6379, 8883, 9042, 9092, 9300, 11211, 27017]);
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
let showsAll = false;
let first = 0;
const open = new Set();
const labels = {};

const collator = new Intl.Collator("en", { numeric: true });

/** Projects in the order of their names, containers of none behind them. */
function byProject({ project: a = "" }, { project: b = "" }) {
  if (a === b) return 0;
  return a && b ? collator.compare(a, b) : a ? -1 : 1;
}

const isRunning = ({ state: itsState }) => itsState === "running" || itsState === "paused";

export function start() {
  state = address.get("state") in STATES ? address.get("state") : "all";
  showsAll = address.get("all") === "1";
  for (const [name, [text]] of Object.entries(STATES)) {
    labels[name] = element("span", {}, text);
    const radio = element("input", { type: "radio", name: "state", value: name, checked: name === state });
    radio.addEventListener("change", () => {
      state = name;
      first = 0;
      address.set({ state: name === "all" ? "" : name });
      show();
    });
    byId("states").append(element("label", {}, radio, labels[name]));
  }
  byId("earlier").addEventListener("click", () => turn(-PAGE));
  byId("later").addEventListener("click", () => turn(PAGE));
  byId("all-containers").addEventListener("click", () => {
    showsAll = !showsAll;
    first = 0;
    address.set({ all: showsAll ? "1" : "" });
    show();
  });
}

export function setContainers(document) {
  containers = document.containers;
  for (const container of containers) container.text = textOf(container);
  containers.sort((a, b) => byProject(a, b) || isRunning(b) - isRunning(a) || collator.compare(a.name, b.name));
  skipped = [...document.skipped, ...(document.faults ?? []).map(fault), ...(document.losses ?? []).map(lostName)];
  for (const one of skipped) one.text = `${one.container} ${one.id} ${one.reason}`.toLowerCase();
  isLoaded = true;
  show();
}

/** Set whether an Engine was ever listed; before that, an empty list means nothing. */
export function setDocker(isListed) {
  if (isListed === hasDocker) return;
  hasDocker = isListed;
  show();
}

const fault = ({ container, id, text, reason, of }) => ({ container, id, reason: `its ${of ?? "name"} ${text}: ${reason}` });

const holderOf = ({ winner, held_for, until }) => {
  if (held_for) return `held back for ${held_for} until ${new Date(until).toLocaleTimeString("en-GB")}`;
  return winner ? `taken by ${winner}` : "ambiguous, as several claim it";
};

const lostName = (loss) => ({
  container: loss.loser,
  id: "",
  reason: `name ${loss.owner} (${loss.rule}): ${holderOf(loss)}`,
});

export function setSearch(newWords) {
  words = newWords;
  first = 0;
  show();
}

function textOf({ name, id, engine, project, state: itsState, health, names, addresses }) {
  return [name, id, engine, project, itsState, health, ...names.flatMap(({ name: called, rule }) => [called, wholeName(called), rule]),
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
  const shown = chosen.slice(first, first + (showsAll ? PAGE : FEW));
  byId("containers-count").textContent = words.length ? `${count(found.length)} of ${count(containers.length)}` : count(containers.length);
  keepFocus(byId("container-list"), () => {
    byId("container-list").replaceChildren(...(shown.length ? rowsOf(shown, found) : [nothing()]));
  });
  byId("all-containers").hidden = chosen.length <= FEW;
  byId("all-containers").textContent = showsAll ? "Show ten" : `Show all ${count(chosen.length)}`;
  byId("pager").hidden = !showsAll || chosen.length <= PAGE;
  byId("place").textContent = `${count(first + 1)} to ${count(first + shown.length)} of ${count(chosen.length)}`;
  byId("earlier").disabled = first === 0;
  byId("later").disabled = first + PAGE >= chosen.length;
  showSkipped();
}

/** The rows, with a heading before each project's if there is any project. */
function rowsOf(shown, found) {
  const sizes = new Map();
  for (const { project = "" } of found) sizes.set(project, (sizes.get(project) ?? 0) + 1);
  const hasProjects = sizes.size > 1 || !sizes.has("");
  return shown.flatMap((container, index) => {
    const { project = "" } = container;
    const isNew = index === 0 || (shown[index - 1].project ?? "") !== project;
    return hasProjects && isNew ? [heading(project, sizes.get(project)), row(container)] : [row(container)];
  });
}

function heading(project, size) {
  return element("li.group", {}, element("h3", {}, project || "Without a project", " ", element("span.note", {}, count(size))));
}

/** Redraw a list and restore the focus, as the list changes while it is read. */
function keepFocus(list, redraw) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  redraw();
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function nothing() {
  if (containers.length) return element("li.nothing", {}, "No matches.");
  if (!hasDocker) return element("li.nothing", {}, "Containers appear here as soon as Docker is connected.");
  return element("li.nothing", {}, "No containers yet. Start one, and it appears here at once: ",
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
  if (isRunning(container) && container.names.length) made.append(actions(container));
  return made;
}

/** For the first name of a container: where it leads, and copying it. */
function actions({ id, name, names, ports = [], cname }) {
  const whole = wholeName(names[0].name);
  const port = cname ? undefined : pagesOf(ports)[0];
  const button = copyButton("Copy", () => whole, whole);
  button.dataset.key = `copy ${id}`;
  const link = port === undefined ? null : portLink(whole, port, "Open");
  if (link) link.dataset.key = `open ${id}`;
  if (link) link.setAttribute("aria-label", `Open ${name} at port ${port}`);
  return element("div.actions", {}, link, button);
}

const pagesOf = (ports) => ports.filter((port) => !NO_PAGES.has(port));

function portLink(whole, port, text) {
  const scheme = HTTPS.has(port) ? "https" : "http";
  const isUsual = port === (scheme === "https" ? 443 : 80);
  const href = `${scheme}://${whole}${isUsual ? "" : `:${port}`}`;
  return element("a", { href, target: "_blank", rel: "noreferrer", title: href }, text);
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
    element("h3", {}, names.length ? `Names, TTL ${ttl} s` : "Names"),
    element("ul", {}, ...names.map(({ name, rule }) => {
      const whole = wholeName(name);
      const button = copyButton("Copy", () => whole, whole);
      button.dataset.key = `copy ${id} ${name}`;
      return element("li", {}, nameOf(whole, name, container), element("span.note", {}, rule), button);
    }), names.length ? null : element("li.quiet", {}, `none: ${container.unanswered || "not running"}`)),
    element("h3", {}, "Addresses by network"),
    element("ul", {}, ...addresses.map(({ network, address }) =>
      element("li", {}, element("span.mono", {}, address), element("span.note", {}, network))),
    addresses.length ? null : element("li.quiet", {}, container.cname ? `those of ${container.cname}` : container.on_host ? "that of the host" : "none")),
    element("h3", {}, "Docker"),
    element("ul", {}, element("li", {}, element("span.mono", {}, id), element("span.note", {}, engine))));
}

/** A name as it is typed: a link to its first port, and the further ones behind it. */
function nameOf(whole, name, { ports = [], cname }) {
  const isLink = !cname && !name.includes("*") && !name.startsWith("_");
  const [first, ...others] = isLink ? pagesOf(ports) : [];
  const called = first === undefined ? whole : portLink(whole, first, first === 80 || first === 443 ? whole : `${whole}:${first}`);
  return element("span.mono", {}, called, ...others.slice(0, MAX_LINKS - 1).flatMap((port) => [" ", portLink(whole, port, `:${port}`)]));
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
