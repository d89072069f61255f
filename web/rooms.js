/** The room list: newest activity first, with the last message, its time and what is unread. */
import { arrange, coalesce, h, icon } from './elements.js';
import { isMuted } from './store.js';
import { briefly, listed } from './wording.js';

export class RoomList {
  #store;
  #people;
  #typing;
  #list;
  #empty;
  #rows = new Map();

  constructor({ store, people, typing }, { list, empty }) {
    this.#store = store;
    this.#people = people;
    this.#typing = typing;
    this.#list = list;
    this.#empty = empty;
    const render = coalesce(() => this.#render());
    store.addEventListener('rooms', render);
    for (const source of [people, typing]) source.addEventListener('change', render);
  }

  #render() {
    const rooms = this.#store.sortedRooms;
    for (const roomId of this.#rows.keys()) if (!this.#store.rooms.has(roomId)) this.#rows.delete(roomId);
    arrange(this.#list, rooms.map((room) => this.#row(room)));
    this.#empty.hidden = rooms.length > 0;
  }

  #row(room) {
    const open = room.roomId === this.#store.openRoomId;
    const { lastMessage, unread, mentions, kind, peerId } = room;
    const view = {
      open,
      kind,
      lastMessage,
      unread,
      mentions,
      name: this.#people.roomName(room),
      status: peerId ? this.#people.status(peerId) : null,
      preview: this.#preview(room),
      muted: isMuted(room),
    };
    const signature = JSON.stringify([view, new Date().toDateString()]);
    const known = this.#rows.get(room.roomId);
    if (known?.signature === signature) return known.row;
    const row = known?.row ?? h('li', {}, h('a', { class: 'room', href: `#room=${room.roomId}` }));
    this.#fill(row.firstChild, room, view);
    this.#rows.set(room.roomId, { row, signature });
    return row;
  }

  #fill(link, room, { open, name, status, preview, muted, unread, mentions, lastMessage: last }) {
    if (open) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
    link.classList.toggle('has-unread', unread > 0 && !muted);
    link.classList.toggle('muted', muted);
    const shownStatus = status && status !== 'offline' ? `, ${status}` : '';
    link.replaceChildren(
      this.#people.roomAvatar(room),
      h(
        'span',
        { class: 'room-lines' },
        h('span', { class: 'room-name', dir: 'auto' }, name, h('span', { class: 'visually-hidden' }, shownStatus)),
        h('span', { class: 'room-last', dir: 'auto' }, preview),
      ),
      h(
        'span',
        { class: 'room-side' },
        last && h('time', { datetime: last.createdAt }, briefly(last.createdAt)),
        h(
          'span',
          { class: 'room-marks' },
          muted && mutedMark(),
          mentions > 0 && mentioned(mentions),
          unread > 0 && badge(unread),
        ),
      ),
    );
  }

  #preview({ roomId, lastMessage, kind }) {
    const typists = this.#typing.typists(roomId).map((userId) => this.#people.name(userId));
    if (typists.length) return kind === 'direct' ? 'typing…' : `${listed(typists, 1)} typing…`;
    if (!lastMessage) return 'No messages yet';
    const text = lastMessage.text ?? 'Message deleted';
    if (lastMessage.senderId === this.#store.userId) return `You: ${text}`;
    return kind === 'direct' ? text : `${this.#people.name(lastMessage.senderId)}: ${text}`;
  }
}

function badge(unread) {
  const words = h('span', { class: 'visually-hidden' }, ' unread messages');
  return h('span', { class: 'badge' }, unread > 99 ? '99+' : String(unread), words);
}

function mentioned(mentions) {
  const words = h('span', { class: 'visually-hidden' }, `${mentions} mentioning you`);
  return h('span', { class: 'at' }, h('span', { 'aria-hidden': 'true' }, '@'), words);
}

function mutedMark() {
  const words = h('span', { class: 'visually-hidden' }, 'Muted');
  return h('span', { class: 'muted-mark', title: 'Muted' }, icon('muted'), words);
}
