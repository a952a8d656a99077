// What of the page is in its address, so that a search or an explanation can be linked.

const parameters = new URLSearchParams(location.search);

export const get = (key) => parameters.get(key) ?? "";

/** Put values into the address; an empty one is left out.  The history gets no entry. */
export function set(values) {
  for (const [key, value] of Object.entries(values)) {
    if (value) parameters.set(key, value);
    else parameters.delete(key);
  }
  const query = parameters.toString();
  history.replaceState(null, "", `${location.pathname}${query && `?${query}`}${location.hash}`);
}
