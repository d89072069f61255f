/** The room list: newest activity first, with the last message, its time and what is unread. */
import { arrange, coalesce, h } from './elements.js';
import { roomAvatar } from './avatar.js';
import { briefly, roomName } from './wording.js';

export class RoomList {
  #store;
  #list;
  #empty;
  #rows = new Map();

  constructor(store, { list, empty }) {
    this.#store = store;
    this.#list = list;
    this.#empty = empty;
    store.addEventListener('rooms', coalesce(() => this.#render()));
  }

  #render() {
    const rooms = this.#store.sortedRooms;
    for (const roomId of this.#rows.keys()) if (!this.#store.rooms.has(roomId)) this.#rows.delete(roomId);
    arrange(this.#list, rooms.map((room) => this.#row(room)));
    this.#empty.hidden = rooms.length > 0;
  }

  #row(room) {
    const open = room.roomId === this.#store.openRoomId;
    const signature = JSON.stringify([roomName(room), room.lastMessage, room.unread, open, new Date().toDateString()]);
    const known = this.#rows.get(room.roomId);
    if (known?.signature === signature) return known.row;
    const row = known?.row ?? h('li', {}, h('a', { class: 'room', href: `#room=${room.roomId}` }));
    this.#fill(row.firstChild, room, open);
    this.#rows.set(room.roomId, { row, signature });
    return row;
  }

  #fill(link, room, open) {
    if (open) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
    link.classList.toggle('has-unread', room.unread > 0);
    const last = room.lastMessage;
    const count = room.unread > 99 ? '99+' : String(room.unread);
    link.replaceChildren(
      roomAvatar(room),
      h(
        'span',
        { class: 'room-lines' },
        h('span', { class: 'room-name', dir: 'auto' }, roomName(room)),
        h('span', { class: 'room-last', dir: 'auto' }, this.#preview(room)),
      ),
      h(
        'span',
        { class: 'room-side' },
        last && h('time', { datetime: last.createdAt }, briefly(last.createdAt)),
        room.unread > 0 &&
          h('span', { class: 'badge' }, count, h('span', { class: 'visually-hidden' }, ' unread messages')),
      ),
    );
  }

  #preview({ lastMessage, kind }) {
    if (!lastMessage) return 'No messages yet';
    const text = lastMessage.text ?? 'Message deleted';
    if (lastMessage.senderId === this.#store.userId) return `You: ${text}`;
    return kind === 'direct' ? text : `${lastMessage.senderId}: ${text}`;
  }
}
