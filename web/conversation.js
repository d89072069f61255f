/** The open room: its header, its messages with day separators, and scrolling back through history. */
import { coalesce } from './elements.js';
import { MessageList } from './list.js';
import { pendingItem, storedItem } from './message.js';
import { listed, roomKind, sentence } from './wording.js';

const LOAD_WITHIN_PX = 500;
const BOTTOM_WITHIN_PX = 60;
const REVEAL_PAGES_MAX = 20; // 1,000 messages back; older ones are shown in their thread.

export class Conversation {
  #store;
  #feed;
  #outbox;
  #receipts;
  #people;
  #members;
  #typing;
  #views;
  #parts;
  #list;
  #atBottom = true;
  #seenAtBottom = 0;
  #unreadAfter = null;
  #failed = null;

  /** `onDo(what, view, button)` takes the presses of messages' buttons. */
  constructor({ store, feed, outbox, receipts, people, members, typing, views }, parts, onDo) {
    this.#store = store;
    this.#feed = feed;
    this.#outbox = outbox;
    this.#receipts = receipts;
    this.#people = people;
    this.#members = members;
    this.#typing = typing;
    this.#views = views;
    this.#parts = parts;
    this.#list = new MessageList(parts.list, people, onDo);
    this.#follow();
    parts.scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    parts.jump.addEventListener('click', () => this.toBottom());
    parts.retry.addEventListener('click', () => this.load());
    document.addEventListener('visibilitychange', () => this.#markRead());
    new ResizeObserver(() => this.#atBottom && this.toBottom()).observe(parts.scroller);
  }

  /** Shows a room of the store, at its newest message. */
  show(roomId) {
    const room = this.#store.rooms.get(roomId);
    this.#list.clear();
    this.#atBottom = true;
    this.#failed = null;
    this.#unreadAfter = room.unread > 0 ? room.readSeq : null;
    this.#store.open(roomId);
    const timeline = this.#store.openTimeline(roomId);
    this.#render();
    this.toBottom();
    this.#feed.fetchRoom(roomId).catch(() => {});
    this.#members.load(roomId).catch(() => {});
    if (!timeline.loaded) this.load();
  }

  #follow() {
    const render = coalesce(() => this.#render());
    const ifOpen = ({ detail }) => detail === this.#store.openRoomId && render();
    for (const type of ['timeline', 'room']) this.#store.addEventListener(type, ifOpen);
    for (const source of [this.#outbox, this.#members, this.#typing]) source.addEventListener('change', ifOpen);
    this.#people.addEventListener('change', render);
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

  /** Scrolls to a message, loading history back to it, and puts the focus there; false when it is too far back. */
  async reveal(seq) {
    const { openRoomId: roomId, timelines } = this.#store;
    const timeline = timelines.get(roomId);
    for (let page = 0; page < REVEAL_PAGES_MAX && !timeline?.find(seq); page += 1) {
      if (!timeline || (timeline.loaded && !timeline.hasOlder)) return false;
      await this.load();
      if (this.#failed || roomId !== this.#store.openRoomId) return false;
    }
    const row = this.#list.row(seq);
    if (!row) return false;
    this.#atBottom = false;
    row.scrollIntoView({ block: 'center' });
    this.#scrolled();
    this.#list.focus(row.dataset.key);
    row.classList.remove('found');
    requestAnimationFrame(() => row.classList.add('found'));
    return true;
  }

  /** Puts the focus back on a message, if it is here. */
  focusMessage(seq) {
    const row = this.#list.row(seq);
    if (row) this.#list.focus(row.dataset.key);
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
    const viewOf = (item, place) => this.#views.of(item, place, room);
    this.#list.render(this.#items(room.roomId), viewOf, { unreadAfter: this.#unreadAfter });
    if (anchor) this.#parts.scroller.scrollTop += anchor.node.offsetTop - anchor.top;
    else this.#parts.scroller.scrollTop = this.#parts.scroller.scrollHeight;
    this.#settle();
    this.#loadNearTop();
  }

  #renderHeader(room) {
    const { avatar, title, kind, typing, pins, pinsText } = this.#parts;
    avatar.replaceChildren(this.#people.roomAvatar(room));
    title.textContent = this.#people.roomName(room);
    kind.textContent = (room.peerId && this.#people.statusWords(room.peerId)) || roomKind(room);
    const typists = this.#typing.typists(room.roomId).map((userId) => this.#people.name(userId));
    const line = typists.length ? `${listed(typists)} ${typists.length === 1 ? 'is' : 'are'} typing` : '';
    if (typing.textContent !== line) typing.textContent = line;
    const pinned = room.pins?.length ?? 0;
    pins.hidden = pinned === 0;
    pinsText.textContent = `${pinned} pinned ${pinned === 1 ? 'message' : 'messages'}`;
  }

  /** Above the first message: loading, a failure with its way out, or the beginning. */
  #renderTop(room) {
    const { top, topText, retry } = this.#parts;
    const timeline = this.#store.timelines.get(room.roomId);
    const beginning = timeline?.loaded && !timeline.hasOlder;
    retry.hidden = !this.#failed;
    top.classList.toggle('beginning', Boolean(beginning));
    if (this.#failed) topText.textContent = sentence(this.#failed.code, this.#failed.message);
    else topText.textContent = beginning ? beginningOf(room, timeline, this.#people.roomName(room)) : 'Loading…';
  }

  #items(roomId) {
    const { userId, timelines } = this.#store;
    const stored = (timelines.get(roomId)?.messages ?? []).map((message) => storedItem(message, userId));
    return [...stored, ...this.#outbox.ofRoom(roomId).map((entry) => pendingItem(entry, userId))];
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
    if (visible && this.#atBottom && timelines.get(openRoomId)?.loaded) this.#receipts.markRead(openRoomId);
  }
}

function beginningOf(room, { messages }, name) {
  if (messages.length) return 'This is where the conversation begins.';
  return room.kind === 'direct' ? `Say hello to ${name}.` : `Be the first to write in ${name}.`;
}
