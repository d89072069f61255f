/** Completes a message to what its row shows: names, quote, reactions, thread, delivery mark. */
import { isAdmin, mentionsUser } from './store.js';

const QUOTE_MAX = 140;

export class MessageViews {
  #store;
  #people;
  #members;
  #feed;
  #connection;

  constructor(store, people, members, feed, connection) {
    this.#store = store;
    this.#people = people;
    this.#members = members;
    this.#feed = feed;
    this.#connection = connection;
  }

  /** `room` is the item's; `inRoom` is false in a thread, where quoting the root would say nothing. */
  of(item, place, room, inRoom = true) {
    const { key, seq, own, unsent, state, error, clientId } = item;
    const { senderId, text, deletedAt, editedAt, createdAt, thread = null } = item;
    return {
      ...{ key, seq, own, unsent, state, error, clientId, inRoom },
      ...{ senderId, text, deletedAt, editedAt, createdAt, thread },
      ...place,
      named: room.kind !== 'direct',
      name: this.#people.name(senderId),
      mentions: item.mentions ?? [],
      mentionsMe: !own && mentionsUser(item, this.#store.userId),
      quote: inRoom && item.replyTo ? this.#quote(room.roomId, item.replyTo) : null,
      replyTo: item.replyTo ?? null,
      reactions: reactionsOf(item),
      pinned: room.pins?.includes(seq) ?? false,
      mark: own ? this.#mark(item, room) : null,
      mayReact: this.#can('message:react'),
      mayEdit: own && this.#can('message:edit'),
      mayDelete: (own || isAdmin(room)) && this.#can('message:delete'),
      mayPin: isAdmin(room) && this.#can('message:pin'),
    };
  }

  #can(event) {
    return !this.#connection.lacks(event);
  }

  /** A message quoted from before the timeline is fetched; the row is drawn again when it comes. */
  #quote(roomId, seq) {
    const message = this.#store.message(roomId, seq);
    if (!message) {
      this.#feed.fetchMessage(roomId, seq);
      return { name: 'An earlier message', text: '' };
    }
    const text = message.deletedAt ? 'Message deleted' : (message.text ?? '');
    return { name: this.#people.name(message.senderId), text: text.slice(0, QUOTE_MAX) };
  }

  /** Sent, then delivered to and read by everybody; in rooms of several the number of readers so far. */
  #mark(item, room) {
    if (item.state === 'pending') return { name: 'clock', words: 'Sending' };
    if (item.state === 'failed') return { name: 'alert', words: 'Not sent' };
    const reach = item.deletedAt ? null : this.#members.reach(item);
    if (!reach || !reach.all || !reach.delivered) return { name: 'check', words: 'Sent' };
    if (room.kind === 'direct') {
      return { name: 'checks', words: reach.read ? 'Read' : 'Delivered', read: reach.read > 0 };
    }
    const all = reach.read === reach.all;
    const words = `Read by ${all ? 'all' : reach.read}`;
    if (reach.read) return { name: 'checks', words, count: reach.read, read: all };
    return reach.delivered < reach.all ? { name: 'check', words: 'Sent' } : { name: 'checks', words: 'Delivered to all' };
  }
}

/** [emoji, count, whether one's own is among them], as they came. */
function reactionsOf({ reactions = {}, myReactions = [] }) {
  return Object.entries(reactions).map(([emoji, count]) => [emoji, count, myReactions.includes(emoji)]);
}
