/** The open room: its header, its messages with day separators, and scrolling back through history. */
import { arrange, coalesce, h } from './elements.js';
import { roomAvatar } from './avatar.js';
import { continues, fillRow, pendingItem, storedItem } from './message.js';
import { dayOf, roomKind, roomName, sameDay, sentence } from './wording.js';

const LOAD_WITHIN_PX = 500;
const BOTTOM_WITHIN_PX = 60;

export class Conversation {
  #store;
  #feed;
  #outbox;
  #parts;
  #rows = new Map();
  #atBottom = true;
  #seenAtBottom = 0;
  #unreadAfter = null;
  #failed = null;

  constructor(store, feed, outbox, parts) {
    this.#store = store;
    this.#feed = feed;
    this.#outbox = outbox;
    this.#parts = parts;
    const render = coalesce(() => this.#render());
    const ifOpen = ({ detail }) => detail === this.#store.openRoomId && render();
    for (const type of ['timeline', 'room']) store.addEventListener(type, ifOpen);
    outbox.addEventListener('change', ifOpen);
    parts.scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    parts.jump.addEventListener('click', () => this.toBottom());
    parts.retry.addEventListener('click', () => this.load());
    document.addEventListener('visibilitychange', () => this.#markRead());
    new ResizeObserver(() => this.#atBottom && this.toBottom()).observe(parts.scroller);
  }

  /** Shows a room of the store, at its newest message. */
  show(roomId) {
    const room = this.#store.rooms.get(roomId);
    this.#rows.clear();
    this.#parts.list.replaceChildren();
    this.#atBottom = true;
    this.#failed = null;
    this.#unreadAfter = room.unread > 0 ? room.readSeq : null;
    this.#store.open(roomId);
    const timeline = this.#store.openTimeline(roomId);
    this.#render();
    this.toBottom();
    this.#feed.fetchRoom(roomId).catch(() => {});
    if (!timeline.loaded) this.load();
  }

  /** Loads history: the newest page first, then further back. */
  async load() {
    const roomId = this.#store.openRoomId;
    try {
      this.#failed = null;
      await this.#feed.loadHistory(roomId);
    } catch (error) {
      if (roomId === this.#store.openRoomId) this.#failed = error;
    }
    if (this.#store.openRoom) this.#render();
  }

  toBottom() {
    const { scroller } = this.#parts;
    scroller.scrollTop = scroller.scrollHeight;
    this.#atBottom = true;
    this.#settle();
  }

  #render() {
    const room = this.#store.openRoom;
    if (!room) return;
    const anchor = this.#atBottom ? null : this.#anchor();
    this.#renderHeader(room);
    this.#renderTop(room);
    arrange(this.#parts.list, this.#lines(room));
    if (anchor) this.#parts.scroller.scrollTop += anchor.node.offsetTop - anchor.top;
    else this.#parts.scroller.scrollTop = this.#parts.scroller.scrollHeight;
    this.#settle();
    this.#loadNearTop();
  }

  #renderHeader(room) {
    const { avatar, title, kind } = this.#parts;
    avatar.replaceChildren(roomAvatar(room));
    title.textContent = roomName(room);
    kind.textContent = roomKind(room);
  }

  /** Above the first message: loading, a failure with its way out, or the beginning. */
  #renderTop(room) {
    const { top, topText, retry } = this.#parts;
    const timeline = this.#store.timelines.get(room.roomId);
    const beginning = timeline?.loaded && !timeline.hasOlder;
    retry.hidden = !this.#failed;
    top.classList.toggle('beginning', Boolean(beginning));
    if (this.#failed) topText.textContent = sentence(this.#failed.code, this.#failed.message);
    else topText.textContent = beginning ? beginningOf(room, timeline) : 'Loading…';
  }

  /** The rows in order: day separators, the unread line, messages. Known rows keep their node. */
  #lines(room) {
    const items = this.#items(room.roomId);
    const keys = new Set();
    const lines = items.flatMap((item, index) => {
      const [previous, next] = [items[index - 1], items[index + 1]];
      const before = [];
      if (!previous || !sameDay(previous.createdAt, item.createdAt)) before.push(this.#separator(item.createdAt, keys));
      const unread = this.#startsUnread(item, previous);
      if (unread) before.push(this.#keep('unread', 'unread', keys, fillUnread));
      const place = { first: unread || !continues(item, previous), last: !next || !continues(next, item) };
      return [...before, this.#message(item, place, room.kind !== 'direct', keys)];
    });
    for (const key of this.#rows.keys()) if (!keys.has(key)) this.#rows.delete(key);
    return lines;
  }

  #items(roomId) {
    const { userId, timelines } = this.#store;
    const stored = (timelines.get(roomId)?.messages ?? []).map((message) => storedItem(message, userId));
    return [...stored, ...this.#outbox.ofRoom(roomId).map((entry) => pendingItem(entry, userId))];
  }

  #startsUnread(item, previous) {
    if (this.#unreadAfter === null || item.own || !(item.seq > this.#unreadAfter)) return false;
    return !previous || previous.seq <= this.#unreadAfter;
  }

  #separator(createdAt, keys) {
    const day = dayOf(createdAt);
    const fill = (row) => {
      row.className = 'day';
      row.replaceChildren(h('span', {}, day));
    };
    return this.#keep(`day:${new Date(createdAt).toDateString()}`, day, keys, fill);
  }

  #message(item, place, named, keys) {
    const actions = {
      retry: (clientId) => this.#outbox.retry(clientId),
      discard: (clientId) => this.#outbox.remove(clientId),
    };
    const signature = JSON.stringify([item, place]);
    return this.#keep(item.key, signature, keys, (row) => fillRow(row, item, place, named, actions));
  }

  #keep(key, signature, keys, fill) {
    keys.add(key);
    const known = this.#rows.get(key);
    if (known?.signature === signature) return known.row;
    const row = known?.row ?? h('li');
    fill(row);
    this.#rows.set(key, { row, signature });
    return row;
  }

  /** The first row in sight: it stays where it is while rows come and go around it. */
  #anchor() {
    const { list, scroller } = this.#parts;
    const node = [...list.children].find((row) => row.offsetTop + row.offsetHeight > scroller.scrollTop);
    return node ? { node, top: node.offsetTop } : null;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#parts.scroller;
    this.#atBottom = scrollHeight - scrollTop - clientHeight < BOTTOM_WITHIN_PX;
    this.#settle();
    this.#loadNearTop();
  }

  #loadNearTop() {
    const timeline = this.#store.timelines.get(this.#store.openRoomId);
    const near = this.#parts.scroller.scrollTop < LOAD_WITHIN_PX;
    if (near && !this.#failed && timeline?.loaded && timeline.hasOlder) this.load();
  }

  /** After every move: what is in sight is read; what came below it is counted on the button. */
  #settle() {
    const { jump, jumpText } = this.#parts;
    const lastSeq = this.#store.openRoom?.lastSeq ?? 0;
    if (this.#atBottom) this.#seenAtBottom = lastSeq;
    const below = lastSeq - this.#seenAtBottom;
    jump.hidden = this.#atBottom;
    jumpText.textContent = below > 0 ? `${below} new` : 'Newest';
    this.#markRead();
  }

  #markRead() {
    const { openRoomId, timelines } = this.#store;
    const visible = document.visibilityState === 'visible' && this.#parts.scroller.offsetParent !== null;
    if (visible && this.#atBottom && timelines.get(openRoomId)?.loaded) this.#feed.markRead(openRoomId);
  }
}

function fillUnread(row) {
  row.className = 'day unread-line';
  row.replaceChildren(h('span', {}, 'New messages'));
}

function beginningOf(room, { messages }) {
  if (messages.length) return 'This is where the conversation begins.';
  return room.kind === 'direct' ? `Say hello to ${roomName(room)}.` : `Be the first to write in ${roomName(room)}.`;
}
