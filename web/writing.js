/** What leaves the composers, of the room and of the thread: messages with their mentions, replies, edits. */
import { Completion } from './completion.js';
import { Composer } from './composer.js';
import { EVERYBODY, mentionsIn } from './mentions.js';
import { isAdmin } from './store.js';

export class Writing {
  #known;
  #onSent;

  constructor(known, onSent) {
    this.#known = known;
    this.#onSent = onSent;
  }

  /** The composer of the open room. */
  inRoom(parts) {
    const { store } = this.#known;
    const send = (text, context) => this.#send(text, context?.reply?.seq ?? null);
    return this.#make(parts, send, () => store.timelines.get(store.openRoomId)?.messages);
  }

  /** The composer of the open thread: all it sends are replies to the root. */
  inThread(parts) {
    const { store } = this.#known;
    return this.#make(parts, (text) => this.#send(text, store.thread.seq), () => store.thread?.replies);
  }

  #make(parts, send, messages) {
    const { store, people, members, typing, actions } = this.#known;
    // Before the composer: both listen to Enter and Escape.
    const completion = new Completion(parts.input, parts.options, people, members, () => this.#mentionable());
    const composer = new Composer(parts, {
      send: (text, context) => {
        completion.close();
        typing.sent();
        return context?.edit ? actions.edit(context.edit, text) : send(text, context);
      },
      typed: (empty) => typing.typed(store.openRoomId, empty),
      editLast: () => this.#editLast(messages(), composer),
    });
    return composer;
  }

  /** Whom one can mention in the open room. */
  #mentionable() {
    const { store, members } = this.#known;
    const ids = members.of(store.openRoomId).map(({ userId }) => userId);
    const others = ids.filter((userId) => userId !== store.userId);
    return isAdmin(store.openRoom) ? [...others, EVERYBODY] : others;
  }

  #send(text, replyTo) {
    const { store, members, outbox } = this.#known;
    if (outbox.full) return 'Too many messages are waiting to be sent. Please send this one later.';
    const room = store.openRoom;
    const ids = new Set(members.of(room.roomId).map(({ userId }) => userId));
    const mentions = mentionsIn(text, (userId) => ids.has(userId), isAdmin(room));
    outbox.add(room.roomId, text, { replyTo, mentions });
    this.#onSent();
    return '';
  }

  #editLast(messages = [], composer) {
    const { store, connection } = this.#known;
    const last = messages.findLast((message) => message.senderId === store.userId && !message.deletedAt);
    if (!last || connection.lacks('message:edit')) return false;
    composer.edit(last);
    return true;
  }
}
