/**
 * The Socket.IO connection: its state, its way back after every kind of loss, and requests with an ack.
 *
 * Stock clients return by themselves after a transport loss or a refused Engine.IO handshake, but not after a
 * DISCONNECT packet or a CONNECT error (protocol, sections 1 and 2): those are tried again here, with backoff.
 * Fires `state` whenever `state` changes.
 */
import { backoff } from './backoff.js';

const CLIENT_URL = '/vendor/socket.io.esm.min.js';
const ACK_TIMEOUT_MS = 7000; // The server's own deadline is 5 s.

/** A request that failed: the ack's error, TIMEOUT when none came, OFFLINE when it was not sent. */
export class RequestError extends Error {
  constructor({ code, message, retryable = false, retryAfterMs = 0, details = [] }) {
    super(message);
    Object.assign(this, { code, retryable, retryAfterMs, details });
  }
}

export class Connection extends EventTarget {
  /** name: idle | connecting | connected | reconnecting | offline | refused; code says why, where that is known. */
  state = { name: 'idle', code: null };
  #socket = null;
  #listeners = [];
  #lacking = new Set();
  #closed = null;
  #attempts = 0;
  #timer = 0;

  constructor() {
    super();
    for (const event of ['online', 'offline']) window.addEventListener(event, () => this.#lost());
  }

  get ready() {
    return this.state.name === 'connected';
  }

  /** Whether the session went on where it was: what was missed came before session:ready. */
  get recovered() {
    return Boolean(this.#socket?.recovered);
  }

  /** Whether the server has said that it does not know this event: what needs it is then hidden. */
  lacks(event) {
    return this.#lacking.has(event);
  }

  /** Server events and who takes them, as { event: listener }; before `open`. */
  listen(listeners) {
    this.#listeners.push(...Object.entries(listeners));
  }

  /** Connects with this token. Throws when the Socket.IO client itself cannot be loaded. */
  async open(token) {
    this.close();
    this.#set('connecting');
    const { io } = await import(CLIENT_URL);
    const socket = io({ auth: { token }, autoConnect: false, forceNew: true });
    this.#socket = socket;
    socket.on('session:ready', () => this.#ready());
    socket.on('session:closed', (reason) => (this.#closed = reason));
    socket.on('disconnect', (reason) => this.#disconnected(reason));
    socket.on('connect_error', (error) => this.#failed(error));
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
    socket.connect();
  }

  close() {
    clearTimeout(this.#timer);
    this.#socket?.disconnect();
    this.#socket = null;
    this.#closed = null;
    this.#attempts = 0;
    this.#lacking.clear();
    this.#set('idle');
  }

  /** Goes on with a newer token of the same user, now and after every reconnect; rejects with RequestError. */
  async renew(token) {
    const socket = this.#socket;
    const { expiresAt } = await this.request('auth:refresh', { token });
    socket.auth = { ...socket.auth, token };
    return expiresAt;
  }

  /** Connects again after a refusal, when the person asks for it. */
  reopen() {
    this.#set('reconnecting');
    this.#socket?.connect();
  }

  /** Sends one event and resolves with its ack's fields; rejects with RequestError. Never queues while offline. */
  request(event, payload = {}) {
    if (!this.#socket?.connected) {
      return Promise.reject(new RequestError({ code: 'OFFLINE', message: 'not connected', retryable: true }));
    }
    const unknown = { code: 'UNKNOWN_EVENT', message: 'no such event' };
    if (this.lacks(event)) return Promise.reject(new RequestError(unknown));
    return new Promise((resolve, reject) => {
      this.#socket.timeout(ACK_TIMEOUT_MS).emit(event, payload, (lost, ack) => {
        if (lost) reject(new RequestError({ code: 'TIMEOUT', message: 'no answer in time', retryable: true }));
        else if (ack?.success) resolve(ack);
        else reject(this.#error(event, ack?.error));
      });
    });
  }

  #error(event, error = { code: 'INTERNAL', message: 'no answer', retryable: true }) {
    if (error.code === 'UNKNOWN_EVENT') this.#lacking.add(event);
    return new RequestError(error);
  }

  #set(name, code = null) {
    if (name === this.state.name && code === this.state.code) return;
    this.state = { name, code };
    this.dispatchEvent(new Event('state'));
  }

  #ready() {
    this.#attempts = 0;
    this.#closed = null;
    this.#set('connected');
  }

  #disconnected(reason) {
    if (reason === 'io client disconnect') return;
    const closed = this.#closed;
    this.#closed = null;
    if (this.#socket.active) this.#lost(true, closed?.code);
    else if (closed && !closed.reconnect) this.#set('refused', closed.code);
    else this.#again(closed?.retryAfterMs, closed?.code);
  }

  #failed(error) {
    if (this.#socket.active) this.#lost(true, 'UNREACHABLE');
    else if (error.data && !error.data.retryable) this.#set('refused', error.data.code);
    else this.#again(error.data?.retryAfterMs, error.data?.code);
  }

  #again(retryAfterMs, code) {
    this.#lost(true, code);
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#timer = setTimeout(() => socket === this.#socket && socket.connect(), backoff(this.#attempts++, retryAfterMs));
  }

  /** Says how the connection is missing; a network change alone does not end a live one. */
  #lost(certain = false, code = null) {
    const { name } = this.state;
    if (name === 'idle' || name === 'refused' || (this.ready && !certain)) return;
    if (!navigator.onLine) this.#set('offline');
    else this.#set(name === 'connecting' ? 'connecting' : 'reconnecting', code);
  }
}
