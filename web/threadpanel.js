/** A thread beside its room, on narrow screens in its place: the root, the replies to it, and a composer of its own. */
import { coalesce } from './elements.js';
import { MessageList } from './list.js';
import { pendingItem, storedItem } from './message.js';
import { Thread } from './thread.js';
import { sentence } from './wording.js';

export class ThreadPanel {
  #store;
  #feed;
  #outbox;
  #views;
  #people;
  #parts;
  #root;
  #replies;

  constructor({ store, feed, outbox, views, people, members }, parts, onDo) {
    this.#store = store;
    this.#feed = feed;
    this.#outbox = outbox;
    this.#views = views;
    this.#people = people;
    this.#parts = parts;
    this.#root = new MessageList(parts.rootList, people, onDo);
    this.#replies = new MessageList(parts.list, people, onDo);
    const render = coalesce(() => this.#render());
    const ifOpen = ({ detail }) => detail === this.#store.thread?.roomId && render();
    for (const type of ['timeline', 'room']) store.addEventListener(type, ifOpen);
    for (const source of [outbox, members]) source.addEventListener('change', ifOpen);
    people.addEventListener('change', render);
    parts.retry.addEventListener('click', () => this.#load());
  }

  /** Shows the thread of a message. */
  show(roomId, seq) {
    const { thread } = this.#store;
    if (thread?.roomId === roomId && thread.seq === seq) return;
    this.#root.clear();
    this.#replies.clear();
    this.#store.thread = new Thread(roomId, seq);
    this.#store.thread.root = this.#store.message(roomId, seq) ?? null;
    this.#parts.panel.hidden = false;
    this.#render();
    this.#load();
  }

  /** Hides it; gives the seq of the root, or null when none was shown. */
  hide() {
    const seq = this.#store.thread?.seq ?? null;
    this.#store.thread = null;
    this.#parts.panel.hidden = true;
    return seq;
  }

  async #load() {
    const { thread } = this.#store;
    const { text, retry } = this.#parts;
    retry.hidden = true;
    text.textContent = 'Loading…';
    try {
      await this.#feed.loadThread(thread);
    } catch (error) {
      if (thread !== this.#store.thread) return;
      text.textContent = sentence(error.code, error.message);
      retry.hidden = false;
    }
  }

  #render() {
    const { thread, userId, rooms } = this.#store;
    const room = rooms.get(thread?.roomId);
    if (!room) return;
    const { scroller, text, where } = this.#parts;
    const atBottom = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    const viewOf = (item, place) => this.#views.of(item, place, room, false);
    const waiting = this.#outbox.ofRoom(room.roomId).filter(({ replyTo }) => replyTo === thread.seq);
    const stored = thread.replies.map((reply) => storedItem(reply, userId));
    const items = [...stored, ...waiting.map((entry) => pendingItem(entry, userId))];
    where.textContent = this.#people.roomName(room);
    this.#root.render(thread.root ? [storedItem(thread.root, userId)] : [], viewOf);
    this.#replies.render(items, viewOf, { since: thread.root?.createdAt });
    if (thread.loaded) text.textContent = count(items.length);
    if (atBottom) scroller.scrollTop = scroller.scrollHeight;
  }
}

function count(replies) {
  if (!replies) return 'No replies yet';
  return `${replies} ${replies === 1 ? 'reply' : 'replies'}`;
}
