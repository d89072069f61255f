/**
 * Messages that have no ack yet, kept in memory and in sessionStorage until they have one.
 *
 * A room's messages leave one at a time, in the order written, each with its own clientId, so that sending again
 * never stores twice (protocol, section 4). A retryable error keeps the message and its place; any other marks it
 * failed and the next one follows. Fires `change` (detail: roomId) and `sent` (detail: the stored message).
 */
import { backoff } from './backoff.js';
import { load, save } from './storage.js';

const STORAGE_KEY = 'parley.outbox';
const ENTRIES_MAX = 100; // 100 texts of 10,000 code points stay below sessionStorage's usual 5 MB.

export class Outbox extends EventTarget {
  #connection;
  #userId = null;
  #entries = [];
  #draining = new Set();
  #sleepers = new Set();

  constructor(connection) {
    super();
    this.#connection = connection;
  }

  /** Takes up what this user left unsent in this tab. */
  open(userId) {
    if (this.#userId === userId) return;
    this.#userId = userId;
    const saved = load(STORAGE_KEY);
    this.#entries = saved?.userId === userId ? saved.entries : [];
  }

  /** Forgets the user; `forget` also drops what was not sent. */
  close({ forget }) {
    this.#userId = null;
    this.#entries = [];
    if (forget) save(STORAGE_KEY, null);
  }

  get full() {
    return this.#entries.length >= ENTRIES_MAX;
  }

  ofRoom(roomId) {
    return this.#entries.filter((entry) => entry.roomId === roomId);
  }

  /** `extra` is what else the message carries: replyTo, mentions. */
  add(roomId, text, extra = {}) {
    const entry = { clientId: crypto.randomUUID(), roomId, text, ...extra };
    this.#entries.push({ ...entry, createdAt: new Date().toISOString(), state: 'pending', error: null });
    this.#changed(roomId);
    this.#drain(roomId);
  }

  /** Sends everything pending, at once also where a retry was being waited for. */
  flush() {
    for (const wake of this.#sleepers) wake();
    for (const roomId of new Set(this.#entries.map((entry) => entry.roomId))) this.#drain(roomId);
  }

  /** Sends a failed message again; after CONFLICT under a new clientId, as the old one belongs to another text. */
  retry(clientId) {
    const entry = this.#find(clientId);
    if (!entry) return;
    if (entry.error === 'CONFLICT') entry.clientId = crypto.randomUUID();
    Object.assign(entry, { state: 'pending', error: null });
    this.#changed(entry.roomId);
    this.#drain(entry.roomId);
  }

  /** Drops a message: it was given up, or it has been seen stored. */
  remove(clientId) {
    const entry = this.#find(clientId);
    if (!entry) return;
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#changed(entry.roomId);
  }

  removeRoom(roomId) {
    this.#entries = this.#entries.filter((entry) => entry.roomId !== roomId);
    this.#changed(roomId);
  }

  async #drain(roomId) {
    if (this.#draining.has(roomId)) return;
    this.#draining.add(roomId);
    let attempt = 0;
    while (this.#connection.ready) {
      const entry = this.#entries.find((one) => one.roomId === roomId && one.state === 'pending');
      if (!entry) break;
      const error = await this.#send(entry);
      attempt = error ? attempt + 1 : 0;
      if (error && this.#connection.ready) await this.#sleep(backoff(attempt - 1, error.retryAfterMs));
    }
    this.#draining.delete(roomId);
  }

  /** One attempt; gives the error when it is to be repeated. */
  async #send(entry) {
    const { roomId, text, clientId, replyTo, mentions } = entry;
    const extra = { ...(replyTo && { replyTo }), ...(mentions?.length && { mentions }) };
    try {
      const { message } = await this.#connection.request('message:send', { roomId, text, clientId, ...extra });
      this.dispatchEvent(new CustomEvent('sent', { detail: message }));
      this.remove(clientId);
    } catch (error) {
      if (error.retryable) return error;
      Object.assign(entry, { state: 'failed', error: error.code });
      this.#changed(roomId);
    }
    return null;
  }

  #sleep(milliseconds) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      this.#sleepers.add(wake);
    });
  }

  #find(clientId) {
    return this.#entries.find((entry) => entry.clientId === clientId);
  }

  #changed(roomId) {
    save(STORAGE_KEY, { userId: this.#userId, entries: this.#entries });
    this.dispatchEvent(new CustomEvent('change', { detail: roomId }));
  }
}
