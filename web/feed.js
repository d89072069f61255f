/**
 * Carries the server's events and answers into the store, and closes the gaps that a lost connection leaves.
 *
 * Fires `live` (detail: a message somebody just sent) for announcements.
 */
import { isMember } from './store.js';

const PAGE = 50;
const SYNC_ROUNDS_MAX = 20; // Past 20 pages of 100 it is cheaper to drop the timeline and load its newest page.
const ROOMS_PAGE = 500;
const ROOM_PAGES_MAX = 4;
const GAP_PATIENCE_MS = 1000; // A live message may overtake the ack of an earlier one.
const THREAD_PAGE = 100;
const THREAD_PAGES_MAX = 20;

export class Feed extends EventTarget {
  #connection;
  #store;
  #outbox;
  #syncToken = null;
  #synced = false;
  #loading = new Map();
  #gapTimers = new Map();
  #fetching = new Map();

  constructor(connection, store, outbox) {
    super();
    this.#connection = connection;
    this.#store = store;
    this.#outbox = outbox;
    outbox.addEventListener('sent', ({ detail }) => this.#take(detail));
    connection.listen({
      'session:ready': (session) => this.#begin(session),
      'message:received': (message) => this.#receive(message),
      'message:edited': (message) => store.change(message.roomId, message.seq, message),
      'message:deleted': ({ roomId, seq, deletedAt }) => this.delete(roomId, seq, deletedAt),
      'message:reaction': (reaction) => this.#react(reaction),
      'room:added': ({ room }) => store.putRooms([room]),
      'room:updated': ({ roomId, ...fields }) => store.patchRoom(roomId, fields),
      'room:removed': ({ roomId }) => this.#remove(roomId),
      'room:deleted': ({ roomId }) => this.#remove(roomId),
      'member:joined': ({ roomId }) => this.#refresh(roomId),
      'member:left': ({ roomId }) => this.#refresh(roomId),
      'member:role': ({ roomId }) => this.#refresh(roomId),
    });
  }

  reset() {
    this.#syncToken = null;
    this.#synced = false;
    for (const timer of this.#gapTimers.values()) clearTimeout(timer);
    this.#gapTimers.clear();
  }

  /** Fetches a room by id into the store and gives it; rejects with RequestError. */
  async fetchRoom(roomId) {
    const { room } = await this.#connection.request('room:get', { roomId });
    if (isMember(room)) this.#store.putRooms([room]);
    return room;
  }

  /**
   * Loads the newest page when there is none, else one page further back; concurrent calls share one request.
   * Rejects with RequestError.
   */
  loadHistory(roomId) {
    if (!this.#loading.has(roomId)) {
      const page = this.#loadPage(roomId).finally(() => this.#loading.delete(roomId));
      this.#loading.set(roomId, page);
    }
    return this.#loading.get(roomId);
  }

  /** Loads what is missing of a thread, from its root on; rejects with RequestError. */
  async loadThread(thread) {
    const { roomId, seq } = thread;
    for (let page = 0; page < THREAD_PAGES_MAX; page += 1) {
      const after = thread.loaded || page > 0 ? thread.lastSeq : 0;
      const ack = await this.#connection.request('message:thread', { roomId, seq, after, limit: THREAD_PAGE });
      for (const message of [ack.root, ...ack.messages]) thread.add(message);
      if (!ack.hasMore) break;
    }
    thread.loaded = true;
    this.#store.addThread(thread);
  }

  /** Fetches one message that is outside the timelines, once; it comes as the store's `timeline` event. */
  fetchMessage(roomId, seq) {
    const place = `${roomId}/${seq}`;
    if (this.#fetching.has(place)) return;
    const fetched = this.#connection
      .request('message:history', { roomId, around: seq, limit: 1 })
      .then(({ messages }) => messages.filter((message) => message.seq === seq).map((one) => this.#store.addStray(one)))
      .catch(() => {})
      .finally(() => this.#fetching.delete(place));
    this.#fetching.set(place, fetched);
  }

  /** A message is gone, but for its place. */
  delete(roomId, seq, deletedAt = new Date().toISOString()) {
    const gone = { text: null, deletedAt, reactions: {}, myReactions: [], mentions: [], attachments: [] };
    this.#store.change(roomId, seq, gone);
  }

  async #loadPage(roomId) {
    const timeline = this.#store.openTimeline(roomId);
    if (timeline.loaded && !timeline.hasOlder) return;
    const before = timeline.loaded ? { before: timeline.oldestSeq } : {};
    const page = await this.#connection.request('message:history', { roomId, ...before, limit: PAGE });
    this.#store.addPage(roomId, page);
    this.#watchGap(roomId);
  }

  async #begin(session) {
    this.#store.begin(session.userId);
    const before = [...this.#store.rooms.keys()];
    this.#outbox.open(session.userId);
    this.#store.putRooms(session.rooms);
    this.#outbox.flush();
    if (this.#store.thread) this.loadThread(this.#store.thread).catch(() => {});
    this.#syncToken ??= session.syncToken ?? null;
    if (this.#synced && this.#connection.recovered) return;
    this.#synced = false;
    try {
      await this.#syncAll();
      await this.#loadRooms(session, before);
      this.#synced = true;
    } catch {
      // The connection went again, or the next gap or session:ready repeats this.
    }
  }

  /** The rooms that session:ready had no place for; those of `before` that are not listed any more are gone. */
  async #loadRooms({ rooms, nextCursor: cursor }, before) {
    const listed = new Set(rooms.map(({ roomId }) => roomId));
    for (let page = 0; cursor && page < ROOM_PAGES_MAX; page += 1) {
      const next = await this.#connection.request('room:list', { cursor, limit: ROOMS_PAGE });
      this.#store.putRooms(next.rooms);
      for (const { roomId } of next.rooms) listed.add(roomId);
      cursor = next.nextCursor;
    }
    if (!cursor) for (const roomId of before) if (!listed.has(roomId)) this.#remove(roomId);
  }

  /** After a (re)connect: everything missed in every timeline, and what changed in older messages. */
  async #syncAll() {
    const loaded = [...this.#store.timelines].filter(([, timeline]) => timeline.loaded);
    let behind = loaded.map(([roomId]) => roomId);
    for (let round = 0; behind.length && round < SYNC_ROUNDS_MAX; round += 1) {
      const token = this.#syncToken === null ? {} : { syncToken: this.#syncToken };
      const ack = await this.#sync(behind, token);
      this.#syncToken = ack.syncToken ?? this.#syncToken;
      behind = behind.filter((roomId) => ack.rooms[roomId]?.hasMore);
    }
    for (const roomId of behind) this.#reload(roomId);
  }

  /** Fills one room's gap. Carries no token: it speaks for one room only. */
  async #syncRoom(roomId) {
    for (let round = 0; round < SYNC_ROUNDS_MAX; round += 1) {
      const ack = await this.#sync([roomId], {});
      if (!ack.rooms[roomId]?.hasMore) return;
    }
    this.#reload(roomId);
  }

  async #sync(roomIds, token) {
    const seen = roomIds.map((roomId) => [roomId, this.#store.timelines.get(roomId)?.contiguousSeq ?? 0]);
    const ack = await this.#connection.request('message:sync', { rooms: Object.fromEntries(seen), ...token });
    for (const [roomId, answer] of Object.entries(ack.rooms)) {
      if (answer.gone) this.#remove(roomId);
      else if (answer.reset) this.#reload(roomId);
      else this.#takeAll(roomId, [...answer.messages, ...(answer.changed ?? [])]);
    }
    return ack;
  }

  #reload(roomId) {
    this.#store.dropTimeline(roomId);
    if (roomId === this.#store.openRoomId) this.loadHistory(roomId).catch(() => {});
  }

  async #receive(message) {
    const fresh = message.seq > (this.#store.rooms.get(message.roomId)?.lastSeq ?? 0);
    this.#take(message);
    if (!this.#store.rooms.has(message.roomId)) await this.fetchRoom(message.roomId).catch(() => {});
    if (fresh) this.dispatchEvent(new CustomEvent('live', { detail: message }));
  }

  #take(message) {
    this.#takeAll(message.roomId, [message]);
    this.#watchGap(message.roomId);
  }

  /** One's own messages settle the outbox, whichever way they come back. */
  #takeAll(roomId, messages) {
    const own = messages.filter((message) => message.clientId && message.senderId === this.#store.userId);
    this.#store.addMessages(roomId, messages);
    for (const message of own) this.#outbox.remove(message.clientId);
  }

  /** The event carries the counts; whether one's own is among them follows from who reacted. */
  #react({ roomId, seq, userId, emoji, removed, reactions, at }) {
    const known = this.#store.message(roomId, seq);
    if (!known || known.deletedAt || at < (known.reactedAt ?? '')) return;
    const others = known.myReactions.filter((one) => one !== emoji);
    const mine = userId === this.#store.userId ? [...others, ...(removed ? [] : [emoji])] : known.myReactions;
    this.#store.change(roomId, seq, { reactions, myReactions: mine, reactedAt: at });
  }

  #remove(roomId) {
    this.#outbox.removeRoom(roomId);
    this.#store.removeRoom(roomId);
  }

  /** The open room's header shows how many members it has. */
  #refresh(roomId) {
    if (roomId === this.#store.openRoomId) this.fetchRoom(roomId).catch(() => {});
  }

  #watchGap(roomId) {
    if (!this.#store.timelines.get(roomId)?.hasGap || this.#gapTimers.has(roomId)) return;
    const fill = () => {
      this.#gapTimers.delete(roomId);
      if (this.#store.timelines.get(roomId)?.hasGap) this.#syncRoom(roomId).catch(() => {});
    };
    this.#gapTimers.set(roomId, setTimeout(fill, GAP_PATIENCE_MS));
  }
}
