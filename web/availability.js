/** How this device says its user is: a menu at the user's own name. It holds for the tab, also after a reconnect. */
import { h, icon } from './elements.js';
import { load, save } from './storage.js';
import { sentence, statusWord } from './wording.js';

const STATUS_KEY = 'parley.status';
const STATUSES = ['online', 'away', 'busy', 'invisible'];

export class Availability {
  #button;
  #connection;
  #people;
  #menu;
  #notice;
  #status = 'online';

  constructor(button, { connection, people, menu, notice }) {
    this.#button = button;
    this.#connection = connection;
    this.#people = people;
    this.#menu = menu;
    this.#notice = notice;
    button.addEventListener('click', () => this.#open());
    people.addEventListener('change', ({ detail }) => detail === people.me && this.#render());
    connection.listen({ 'session:ready': () => this.#begin() });
  }

  /** A new connection counts as online until it says otherwise. */
  #begin() {
    this.#status = STATUSES.includes(load(STATUS_KEY)) ? load(STATUS_KEY) : 'online';
    this.#people.show(this.#people.me, this.#status);
    if (this.#status !== 'online') this.#connection.request('presence:set', { status: this.#status }).catch(() => {});
  }

  #render() {
    const name = this.#people.name(this.#people.me);
    const words = h('span', { class: 'me-status' }, statusWord(this.#status));
    this.#button.setAttribute('aria-label', `${name}, ${statusWord(this.#status)}: change your status`);
    this.#button.replaceChildren(
      this.#people.avatar(this.#people.me),
      h('span', { class: 'me-lines' }, h('span', { class: 'me-name', dir: 'auto' }, name), words),
      icon('down-small'),
    );
  }

  #open() {
    const items = STATUSES.map((status) => {
      return { label: statusWord(status), checked: status === this.#status, act: () => this.#choose(status) };
    });
    this.#menu.open(this.#button, 'Your status', [{ items }]);
  }

  async #choose(status) {
    try {
      await this.#connection.request('presence:set', { status });
      this.#status = status;
      save(STATUS_KEY, status);
      this.#people.show(this.#people.me, status);
    } catch (error) {
      this.#notice.show(sentence(error.code, error.message));
    }
  }
}
