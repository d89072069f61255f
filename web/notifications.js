/** The bell: how many notifications are unread, and the list of them. */
import { h } from './elements.js';
import { closable, openDialog } from './dialogs.js';
import { briefly, sentence } from './wording.js';

const PAGE = 30;
const TITLES = { push: 'Notification', reminder: 'Reminder', mention: 'Mention' };

export class Notifications extends EventTarget {
  #parts;
  #connection;
  #onMessage;
  #unread = 0;
  #cursor = null;

  /** Fires `arrived` (detail: the notification). `onMessage(roomId, seq)` leads to what a mention is about. */
  constructor(parts, connection, onMessage) {
    super();
    this.#parts = parts;
    this.#connection = connection;
    this.#onMessage = onMessage;
    closable(parts.dialog);
    parts.button.addEventListener('click', () => this.#open());
    parts.all.addEventListener('click', () => this.#read({ all: true }));
    parts.more.addEventListener('click', () => this.#load());
    connection.listen({
      'session:ready': ({ unreadNotifications }) => this.#count(unreadNotifications ?? 0),
      notification: (notification) => this.#arrived(notification),
      'notification:read': (read) => this.#told(read),
    });
  }

  #arrived(notification) {
    this.#count(this.#unread + 1);
    if (this.#parts.dialog.open) {
      this.#parts.list.prepend(this.#row({ ...notification, read: false }));
      this.#parts.text.textContent = '';
    }
    this.dispatchEvent(new CustomEvent('arrived', { detail: notification }));
  }

  #count(unread) {
    const { button, badge, all } = this.#parts;
    this.#unread = unread;
    badge.hidden = unread === 0;
    badge.textContent = unread > 99 ? '99+' : String(unread);
    button.setAttribute('aria-label', unread ? `Notifications, ${unread} unread` : 'Notifications');
    all.hidden = unread === 0;
  }

  async #open() {
    this.#cursor = null;
    this.#parts.list.replaceChildren();
    openDialog(this.#parts.dialog);
    await this.#load();
  }

  async #load() {
    const { list, text, more } = this.#parts;
    text.textContent = 'Loading…';
    try {
      const cursor = this.#cursor ? { cursor: this.#cursor } : {};
      const ack = await this.#connection.request('notification:list', { ...cursor, limit: PAGE });
      list.append(...ack.notifications.map((one) => this.#row(one)));
      this.#cursor = ack.nextCursor;
      text.textContent = list.children.length ? '' : 'Nothing yet. When somebody mentions you, it is kept here.';
    } catch (error) {
      text.textContent = sentence(error.code, error.message);
    }
    more.hidden = !this.#cursor;
  }

  #row({ id, type, title, body, data, createdAt, read }) {
    const open = () => this.#follow(id, data);
    const words = [
      h(
        'span',
        { class: 'entry-title' },
        h('strong', { dir: 'auto' }, title || TITLES[type]),
        h('time', { datetime: createdAt }, briefly(createdAt)),
      ),
      h('span', { class: 'entry-body', dir: 'auto' }, body),
      h('span', { class: 'visually-hidden unread-words' }, 'unread'),
    ];
    const button = h('button', { type: 'button', class: 'entry-main', on: { click: open } }, ...words);
    return h('li', { class: read ? 'entry' : 'entry unread', 'data-id': id }, button);
  }

  #follow(id, { roomId, seq }) {
    if (this.#rows([id]).some((row) => row.classList.contains('unread'))) this.#read({ ids: [id] });
    if (!roomId) return;
    this.#parts.dialog.close();
    this.#onMessage(roomId, seq);
  }

  async #read(which) {
    try {
      const { unreadNotifications } = await this.#connection.request('notification:read', which);
      this.#told({ ...which, unreadNotifications });
    } catch (error) {
      this.#parts.text.textContent = sentence(error.code, error.message);
    }
  }

  #told({ ids, unreadNotifications }) {
    this.#count(unreadNotifications);
    for (const row of this.#rows(ids)) row.classList.remove('unread');
  }

  /** The rows of these ids, or all. */
  #rows(ids) {
    return [...this.#parts.list.children].filter((row) => !ids || ids.includes(row.dataset.id));
  }
}
