// Creating elements.  Text from containers and clients becomes text nodes here; nothing on
// this page is ever parsed as markup, and the content security policy forbids it.

/** Make an element: `element("li.row", { title: "x" }, "text", child)`. */
export function element(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** A coloured dot and a word; the word must be clear without the colour. */
export function badge(tone, text) {
  return element(`span.badge.${tone}`, {}, element("span.dot", { "aria-hidden": "true" }), text);
}

/** A button that copies a line, which is computed when it is clicked. */
export function copyButton(text, line, about) {
  const button = element("button.copy", { type: "button", "aria-label": `${text} for ${about}` }, text);
  button.addEventListener("click", async () => {
    const copied = await copy(line());
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    say(copied ? `Copied: ${line()}` : "Could not copy");
    setTimeout(() => { button.textContent = text; }, 1500);
  });
  return button;
}

async function copy(line) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(line);
      return true;
    } catch { /* not allowed: fall back to execCommand */ }
  }
  // Without TLS there is no navigator.clipboard, and this page is mostly served without TLS.
  const area = element("textarea", { value: line, readOnly: true, "aria-label": "to copy" });
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus();
  return copied;
}

/** Announce a text to screen readers. */
export function say(text) {
  byId("said").textContent = text;
}

/** Whether a lower-case text contains every word of a search. */
export function matches(text, words) {
  return words.every((word) => text.includes(word));
}

export const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

export const count = (number) => number.toLocaleString("en");

/** The age of an RFC 3339 time, such as "8 s ago". */
export function ago(time) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}

export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");

let answering = { host: location.hostname, port: "53", domain: "docker." };

/** Set where this server answers DNS, from its status. */
export function learnAddress(status) {
  const here = location.hostname.replace(/^\[|\]$/g, "").replace(/^localhost$/, "127.0.0.1");
  const endpoints = (status.dns ?? []).map((text) => ({
    host: text.slice(0, text.lastIndexOf(":")).replace(/^\[|\]$/g, ""),
    port: text.slice(text.lastIndexOf(":") + 1),
  }));
  const wild = endpoints.find(({ host }) => host === "0.0.0.0" || host === "::");
  const same = endpoints.find(({ host }) => host === here);
  const { host, port } = same ?? (wild ? { ...wild, host: here } : endpoints[0]) ?? answering;
  answering = { host, port, domain: status.domains?.[0] ?? "docker." };
}

/** A name as it is typed anywhere, without the final dot: "web.docker". */
export function wholeName(name) {
  return (name.endsWith(".") ? name : `${name}.${answering.domain}`).replace(/\.$/, "");
}

/** The dig command for a name, relative or (with a final dot) absolute. */
export function digLine(name, type = "") {
  const whole = name.endsWith(".") ? name : `${name}.${answering.domain}`;
  const port = answering.port === "53" ? "" : ` -p ${answering.port}`;
  const quoted = /^[\w.-]+$/.test(whole) ? whole : `'${whole.replaceAll("'", "'\\''")}'`;
  return `dig @${answering.host}${port} ${quoted}${type && ` ${type}`}`;
}
