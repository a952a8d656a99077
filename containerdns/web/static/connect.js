// What a device is configured with so that it asks this server, and whether this one does.

import * as address from "./address.js";
import { badge, byId, copyButton, element } from "./dom.js";

const LABELS = {
  "systemd-resolved": "Linux (systemd-resolved)", networkmanager: "Linux (NetworkManager)", "resolv.conf": "Linux (resolv.conf)",
  macos: "macOS", windows: "Windows", docker: "Docker containers",
  openvpn: "OpenVPN", wireguard: "WireGuard", tailscale: "Tailscale", headscale: "Headscale",
  dnsmasq: "dnsmasq", unbound: "Unbound", bind: "BIND", pihole: "Pi-hole", adguard: "AdGuard Home", openwrt: "OpenWrt",
};
const WAIT = 8000;  // ms until a query should have come

let targets = [];
let domain = "docker.";
let awaited = null;
let seesAll = true;

export function start() {
  byId("connect-target").addEventListener("change", () => {
    address.set({ target: byId("connect-target").value });
    showTarget();
  });
  byId("connect-server").value = address.get("server");
  byId("connect-form").addEventListener("submit", (event) => {
    event.preventDefault();
    address.set({ server: byId("connect-server").value.trim() });
    load();
  });
  byId("test").addEventListener("click", test);
  for (const link of document.querySelectorAll("[data-view]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      open(link.dataset.view);
      scrollTo(0, 0);
    });
  }
  for (const link of document.querySelectorAll("a[href^='#']")) link.addEventListener("click", () => open(""));
  open(address.get("view"));
}

/** Learn which names are ours, and whether this page is shown the queries of all. */
export function learn(status) {
  domain = status.domains?.[0] ?? domain;
  seesAll = status.sees_all;
}

/** Look for the query of a test among those that came. */
export function lookFor(queries) {
  const found = awaited && queries.find(({ name }) => name === awaited.name);
  if (!found) return;
  clearTimeout(awaited.timer);
  awaited = null;
  tell("good", "Connected", `This device's query for ${found.name} came from ${found.client_name ?? found.client}.`);
}

function open(view) {
  const isConnect = view === "connect";
  byId("connect").hidden = !isConnect;
  for (const section of document.querySelectorAll("main .card:not(#connect)")) section.hidden = isConnect;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (isConnect) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  address.set({ view: isConnect ? view : "" });
  if (isConnect && !targets.length) load();
}

async function load() {
  const server = byId("connect-server").value.trim();
  try {
    const response = await fetch(`/client-config${server && `?server=${encodeURIComponent(server)}`}`);
    const document = await response.json();
    if (!response.ok) {
      complain(document.detail);
      return;
    }
    targets = document.targets;
    byId("connect-server").placeholder = document.servers[0].replace(/:\d+$/, "").replace(/[[\]]/g, "");
  } catch {
    complain("The server does not answer.");
    return;
  }
  fillTargets();
  showTarget();
}

function complain(text) {
  byId("connect-files").replaceChildren(element("p.bad", {}, text));
}

function fillTargets() {
  const chosen = address.get("target") || usual();
  const known = [...Object.keys(LABELS).filter((name) => targets.some(({ target }) => target === name)),
    ...targets.map(({ target }) => target).filter((name) => !LABELS[name])];
  byId("connect-target").replaceChildren(...known.map((name) =>
    element("option", { value: name, selected: name === chosen }, LABELS[name] ?? name)));
}

/** The kind of the device that shows this page. */
function usual() {
  if (/Mac/.test(navigator.userAgent)) return "macos";
  return /Windows/.test(navigator.userAgent) ? "windows" : "systemd-resolved";
}

function showTarget() {
  const shown = targets.find(({ target }) => target === byId("connect-target").value);
  if (!shown) return;
  byId("connect-files").replaceChildren(...shown.files.map(({ path, content }, index) => element("div.file", {},
    element("div.head", {}, element("h3", {}, path ? element("code", {}, path) : "To run or to enter"),
      copyButton("Copy", () => content, path || `step ${index + 1}`)),
    element("pre", { tabIndex: 0, role: "region", "aria-label": path || `step ${index + 1}` }, content))),
  element("ul.facts", {}, ...shown.notes.map((note) => element("li", {}, element("span.under", {}, note))),
    step("Test", shown.test), step("Undo", shown.undo)));
}

const step = (name, text) => element("li", {}, element("span.rank", {}, name), element("code", {}, text));

/** Make the browser look up a new name, and wait until its query is here. */
function test() {
  const label = `test-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const name = `${label}.${domain}`;
  if (awaited) clearTimeout(awaited.timer);
  awaited = { name, timer: setTimeout(giveUp, WAIT) };
  tell("quiet", "Waiting", `for this browser's query for ${name}`);
  // Names of our domain alone are allowed here, and nobody has this one: nothing else is sent.
  new Image().src = `http://${name.replace(/\.$/, "")}/`;
}

function giveUp() {
  tell("warn", "No query came", `This device does not ask this server${seesAll ? "" : ", or through another resolver, whose queries this page is not shown"}` +
    "; or the browser uses a resolver of its own (secure DNS).");
}

function tell(tone, word, text) {
  byId("test-result").replaceChildren(badge(tone, word), ` ${text}`);
}
