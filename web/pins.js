/** The pinned messages of the open room: to go to, and for its admins to unpin. */
import { coalesce, h } from './elements.js';
import { closable, openDialog } from './dialogs.js';
import { isAdmin } from './store.js';
import { briefly } from './wording.js';

export class PinsDialog {
  #dialog;
  #store;
  #people;
  #feed;
  #actions;
  #onMessage;
  #roomId = null;

  constructor(dialog, { store, people, feed, actions }, onMessage) {
    this.#dialog = dialog;
    this.#store = store;
    this.#people = people;
    this.#feed = feed;
    this.#actions = actions;
    this.#onMessage = onMessage;
    closable(dialog);
    const render = coalesce(() => this.#dialog.open && this.#render());
    for (const type of ['timeline', 'room', 'rooms']) store.addEventListener(type, render);
  }

  open(roomId) {
    this.#roomId = roomId;
    this.#render();
    openDialog(this.#dialog);
  }

  #render() {
    const room = this.#store.rooms.get(this.#roomId);
    if (!room?.pins?.length) return this.#dialog.close();
    this.#dialog.querySelector('ul').replaceChildren(...[...room.pins].reverse().map((seq) => this.#row(room, seq)));
  }

  #row(room, seq) {
    const { roomId } = room;
    const message = this.#store.message(roomId, seq);
    if (!message) this.#feed.fetchMessage(roomId, seq);
    const name = message ? this.#people.name(message.senderId) : '';
    const go = () => {
      this.#dialog.close();
      this.#onMessage(roomId, seq);
    };
    const words = [
      h('span', { class: 'entry-title' }, h('strong', {}, name), message && h('time', {}, briefly(message.createdAt))),
      h('span', { class: 'entry-body', dir: 'auto' }, message ? (message.text ?? 'Message deleted') : 'Loading…'),
    ];
    const label = { 'aria-label': `Unpin: ${name}` };
    const unpin = () => this.#actions.pin(roomId, seq, false);
    return h(
      'li',
      { class: 'entry' },
      h('button', { type: 'button', class: 'entry-main', on: { click: go } }, ...words),
      isAdmin(room) && h('button', { type: 'button', class: 'link', on: { click: unpin }, ...label }, 'Unpin'),
    );
  }
}
