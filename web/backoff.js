/** Exponential backoff with jitter, never sooner than the server asked for. Milliseconds. */
const FIRST_MS = 1000;
const LONGEST_MS = 30000;

export function backoff(attempt, retryAfterMs = 0) {
  const delay = Math.min(FIRST_MS * 2 ** attempt, LONGEST_MS);
  return Math.max(retryAfterMs, delay * (0.5 + Math.random() / 2));
}
