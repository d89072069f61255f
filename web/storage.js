/** JSON values in sessionStorage: this tab only, gone with it. Where it is full or forbidden, memory still serves. */
export function load(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

export function save(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Nothing to do: what is on the page does not depend on it.
  }
}
