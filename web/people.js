/**
 * Who people are and whether they are here: display names by `user:get`, presence by `presence:subscribe`.
 *
 * What is asked for in one turn is one request. Fires `change` (detail: userId); avatars made here follow of themselves.
 */
import { personAvatar, roomAvatar } from './avatar.js';
import { coalesce } from './elements.js';
import { lastSeenWords, roomName } from './wording.js';

const ASKED_AT_ONCE = 200; // userIds of one user:get (protocol, section 2).
const WATCHED_MAX = 500; // userIds of one presence:subscribe (protocol, section 5).
const NAMES_MAX = 2000;

export class People extends EventTarget {
  #connection;
  #store;
  #names = new Map();
  #wanted = new Set();
  #asked = new Set();
  #presence = new Map();
  #watched = new Set();
  #ask = coalesce(() => this.#fetch());

  constructor(connection, store) {
    super();
    this.#connection = connection;
    this.#store = store;
    connection.listen({
      'session:ready': ({ rooms }) => this.#begin(rooms),
      'user:updated': ({ userId, name }) => this.learn(userId, name),
      'user:online': ({ userId, status }) => this.#here(userId, { status, lastSeen: null }),
      'user:status': ({ userId, status }) => this.#here(userId, { status, lastSeen: null }),
      'user:offline': ({ userId, lastSeen }) => this.#here(userId, { status: 'offline', lastSeen }),
      'room:added': ({ room }) => room.peerId && this.watch([room.peerId]),
    });
  }

  reset() {
    for (const known of [this.#names, this.#wanted, this.#asked, this.#presence, this.#watched]) known.clear();
  }

  get me() {
    return this.#store.userId;
  }

  /** The display name, or the id while none is known. */
  name(userId) {
    if (userId && !this.#names.has(userId) && !this.#asked.has(userId)) {
      this.#wanted.add(userId);
      this.#ask();
    }
    return this.#names.get(userId) ?? userId;
  }

  roomName(room) {
    return room.kind === 'direct' && room.peerId ? this.name(room.peerId) : roomName(room);
  }

  /** online | away | busy | offline, or undefined where nobody has said. */
  status(userId) {
    return this.#presence.get(userId)?.status;
  }

  /** Presence in words: "Online", "Last seen 12:30", or "". */
  statusWords(userId) {
    const known = this.#presence.get(userId);
    return known ? lastSeenWords(known) : '';
  }

  avatar(userId) {
    return personAvatar(userId, this.name(userId), this.status(userId));
  }

  roomAvatar(room) {
    return room.kind === 'direct' && room.peerId ? this.avatar(room.peerId) : roomAvatar(room);
  }

  /** Takes in a profile that came with something else. */
  learn(userId, name) {
    if (this.#names.has(userId) && this.#names.get(userId) === name) return;
    this.#names.set(userId, name);
    if (this.#names.size > NAMES_MAX) this.#names.delete(this.#names.keys().next().value);
    this.#changed(userId);
  }

  /** Asks to be told when these people come and go; gives up quietly, the next session:ready asks again. */
  async watch(userIds) {
    const fresh = userIds.filter((userId) => userId !== this.#store.userId && !this.#watched.has(userId));
    const taken = fresh.slice(0, Math.max(0, WATCHED_MAX - this.#watched.size));
    for (const userId of taken) this.#watched.add(userId);
    if (!taken.length) return;
    try {
      this.#snapshot(await this.#connection.request('presence:subscribe', { userIds: taken }));
    } catch {
      for (const userId of taken) this.#watched.delete(userId);
    }
  }

  /** One's own status, as chosen on this device. */
  show(userId, status) {
    this.#here(userId, { status, lastSeen: null });
  }

  /** A new connection watches nobody but the other sides of direct rooms, and even those come without a snapshot. */
  #begin(rooms) {
    const before = [...this.#watched];
    this.#watched.clear();
    this.watch([...new Set([...rooms.map(({ peerId }) => peerId).filter(Boolean), ...before])]);
    if (this.#wanted.size) this.#ask();
  }

  #snapshot({ users }) {
    for (const [userId, { status, lastSeen }] of Object.entries(users)) this.#here(userId, { status, lastSeen });
  }

  async #fetch() {
    const asked = [...this.#wanted].slice(0, ASKED_AT_ONCE);
    if (!asked.length || !this.#connection.ready) return;
    for (const userId of asked) {
      this.#wanted.delete(userId);
      this.#asked.add(userId);
    }
    try {
      const { users } = await this.#connection.request('user:get', { userIds: asked });
      for (const userId of asked) this.learn(userId, users[userId]?.name ?? null);
    } catch (error) {
      if (error.code !== 'UNKNOWN_EVENT') for (const userId of asked) this.#wanted.add(userId);
    } finally {
      for (const userId of asked) this.#asked.delete(userId);
    }
    if (this.#wanted.size > 0 && asked.length === ASKED_AT_ONCE) this.#ask();
  }

  #here(userId, presence) {
    const known = this.#presence.get(userId);
    if (known?.status === presence.status && known.lastSeen === presence.lastSeen) return;
    this.#presence.set(userId, presence);
    this.#changed(userId);
  }

  #changed(userId) {
    for (const avatar of document.querySelectorAll(`.avatar[data-user="${CSS.escape(userId)}"]`)) {
      avatar.replaceWith(this.avatar(userId));
    }
    this.dispatchEvent(new CustomEvent('change', { detail: userId }));
  }
}
