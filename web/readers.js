/** Who has read a message, and to whom else it was delivered. */
import { h } from './elements.js';
import { closable, openDialog } from './dialogs.js';
import { briefly, sentence } from './wording.js';

const SHOWN_MAX = 100;

export class ReadersDialog {
  #dialog;
  #connection;
  #people;

  constructor(dialog, connection, people) {
    this.#dialog = dialog;
    this.#connection = connection;
    this.#people = people;
    closable(dialog);
  }

  async open(roomId, seq) {
    const [text, list] = [this.#dialog.querySelector('.hint'), this.#dialog.querySelector('ul')];
    text.textContent = 'Loading…';
    list.replaceChildren();
    openDialog(this.#dialog);
    try {
      const ack = await this.#connection.request('message:receipts', { roomId, seq, limit: SHOWN_MAX });
      const readers = new Set(ack.readBy.map(({ userId }) => userId));
      const reached = ack.deliveredTo.filter(({ userId }) => !readers.has(userId));
      list.append(...ack.readBy.map((one) => this.#row(one, 'read')));
      list.append(...reached.map((one) => this.#row(one, 'delivered')));
      const more = ack.nextCursor ? ` Of the first ${SHOWN_MAX} members.` : '';
      const any = ack.readBy.length + reached.length > 0;
      text.textContent = any ? `Read by ${ack.readBy.length}.${more}` : 'Nobody has it yet.';
    } catch (error) {
      text.textContent = sentence(error.code, error.message);
    }
  }

  #row({ userId, at }, what) {
    const name = h('span', { class: 'member-name', dir: 'auto' }, this.#people.name(userId));
    const when = h('span', { class: 'hint' }, `${what} ${briefly(at)}`);
    return h('li', { class: 'member' }, this.#people.avatar(userId), name, when);
  }
}
