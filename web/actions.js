/** What can be done with a message: its menu, and the requests behind it. */
import { QUICK } from './emoji.js';
import { brief } from './message.js';
import { sentence } from './wording.js';

export class MessageActions {
  #connection;
  #store;
  #feed;
  #outbox;
  #menu;
  #emoji;
  #readers;
  #notice;

  constructor({ connection, store, feed, outbox, menu, emoji, readers, notice }) {
    this.#connection = connection;
    this.#store = store;
    this.#feed = feed;
    this.#outbox = outbox;
    this.#menu = menu;
    this.#emoji = emoji;
    this.#readers = readers;
    this.#notice = notice;
  }

  /** Does what a row's button stands for. `ways` lead elsewhere: { reply, edit, thread, quote }, each with the view. */
  run(what, view, button, roomId, ways) {
    const known = {
      add: () => this.#emoji.open((emoji) => this.react(roomId, view, emoji)),
      react: () => this.react(roomId, view, button.dataset.emoji),
      retry: () => this.#outbox.retry(view.clientId),
      discard: () => this.#outbox.remove(view.clientId),
      more: () => this.#open(view, button, roomId, ways),
      ...ways,
    };
    known[what](view);
  }

  /** Sets the user's reaction, or takes it back. */
  react(roomId, { seq }, emoji) {
    const mine = this.#store.message(roomId, seq)?.myReactions ?? [];
    const remove = mine.includes(emoji);
    return this.#attempt(async () => {
      const ack = await this.#connection.request('message:react', { roomId, seq, emoji, ...(remove && { remove }) });
      this.#store.change(roomId, seq, { reactions: ack.reactions, myReactions: ack.myReactions });
    }, `${emoji} is not an emoji that can be used here.`);
  }

  /** Gives the message another text; resolves with a sentence when that fails, else "". */
  async edit({ roomId, seq }, text) {
    try {
      const { message } = await this.#connection.request('message:edit', { roomId, seq, text });
      this.#store.addMessages(roomId, [message]);
      return '';
    } catch (error) {
      return sentence(error.code, error.message);
    }
  }

  /** Pins, or no longer. */
  pin(roomId, seq, pinned) {
    return this.#attempt(async () => {
      const { pins } = await this.#connection.request('message:pin', { roomId, seq, pinned });
      this.#store.patchRoom(roomId, { pins });
    });
  }

  #open(view, button, roomId, ways) {
    const { seq, deletedAt, inRoom } = view;
    const mine = new Set(view.reactions.filter(([, , own]) => own).map(([emoji]) => emoji));
    const quick = QUICK.map(([text, label]) => {
      return { label, text, checked: mine.has(text), act: () => this.react(roomId, view, text) };
    });
    const live = !deletedAt;
    const more = () => this.run('add', view, button, roomId, ways);
    const pinning = { label: view.pinned ? 'Unpin' : 'Pin', icon: 'pin', act: () => this.pin(roomId, seq, !view.pinned) };
    const removal = { label: 'Delete…', icon: 'trash', danger: true, act: () => this.#confirm(view, button, roomId) };
    const items = [
      live && view.mayReact && { label: 'More reactions…', icon: 'smile', act: more },
      live && ways.reply && { label: 'Reply', icon: 'reply', act: () => ways.reply(view) },
      inRoom && (live || view.thread) && { label: 'Open thread', icon: 'thread', act: () => ways.thread(view) },
      live && view.mayEdit && { label: 'Edit', icon: 'edit', act: () => ways.edit(view) },
      live && view.mayPin && pinning,
      live && { label: 'Copy text', icon: 'copy', act: () => this.#copy(view.text) },
      live && { label: 'Who has read this', icon: 'checks', act: () => this.#readers.open(roomId, seq) },
      live && view.mayDelete && removal,
    ];
    const groups = [
      { row: true, items: live && view.mayReact ? quick : [] },
      { items: items.filter(Boolean) },
    ];
    this.#menu.open(button, brief(view), groups);
  }

  /** Nothing brings a deleted message back, so it is asked for twice. */
  #confirm(view, button, roomId) {
    const items = [
      { label: 'Delete for everybody', icon: 'trash', danger: true, act: () => this.#delete(roomId, view.seq) },
      { label: 'Keep it', icon: 'close', act: () => {} },
    ];
    this.#menu.open(button, 'Delete this message?', [{ items }]);
  }

  #delete(roomId, seq) {
    return this.#attempt(async () => {
      await this.#connection.request('message:delete', { roomId, seq });
      this.#feed.delete(roomId, seq);
    });
  }

  #copy(text) {
    return this.#attempt(() => navigator.clipboard.writeText(text), 'The browser does not let this page copy.');
  }

  async #attempt(work, otherwise = null) {
    try {
      await work();
    } catch (error) {
      const own = otherwise && (!error.code || error.code === 'VALIDATION_ERROR');
      this.#notice.show(own ? otherwise : sentence(error.code, error.message));
    }
  }
}
