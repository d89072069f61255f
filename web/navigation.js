/** Between room list, room and thread: the location hash says where one is, so that links and the back button work. */
import { coalesce } from './elements.js';

const WIDE = window.matchMedia('(min-width: 721px)');
const at = (id) => document.getElementById(id);

export class Navigation {
  #parts;
  /** A message to be shown once its room is. */
  #target = null;

  constructor(parts) {
    this.#parts = parts;
    window.addEventListener('hashchange', () => this.follow());
    at('thread-close').addEventListener('click', () => this.#closeThread());
    at('thread').addEventListener('keydown', (event) => event.key === 'Escape' && this.#closeThread());
    const gone = () => parts.store.openRoomId && !parts.store.openRoom && this.#go({});
    parts.store.addEventListener('rooms', coalesce(gone));
    const { store, people, composer } = parts;
    const rename = () => store.openRoom && composer.rename(`Message ${people.roomName(store.openRoom)}`);
    people.addEventListener('change', coalesce(rename));
  }

  reset({ forget }) {
    this.#target = null;
    this.#parts.threadPanel.hide();
    if (forget) history.replaceState(null, '', '/');
  }

  toRoom(room) {
    this.#parts.store.putRooms([room]);
    this.#go({ room: room.roomId });
  }

  toThread(roomId, seq) {
    this.#go({ room: roomId, thread: seq });
  }

  /** Shows a message in its room, or, where it lies too far back, its thread. */
  toMessage(roomId, seq) {
    this.#target = { roomId, seq };
    this.#go({ room: roomId });
  }

  /** Follows the hash: a room one is in is shown, any other id is offered to be opened. */
  async follow() {
    if (at('chat').hidden) return;
    const { store, feed } = this.#parts;
    const { roomId, thread } = place();
    if (roomId && !store.rooms.has(roomId)) await feed.fetchRoom(roomId).catch(() => {});
    if (roomId !== place().roomId || !store.userId) return;
    const room = store.rooms.get(roomId);
    at('chat').dataset.screen = room ? (thread ? 'thread' : 'room') : 'list';
    at('no-room').hidden = Boolean(room);
    at('room').hidden = !room;
    if (room) this.#showRoom(room, thread);
    else this.#closeRoom(roomId);
    if (room && thread) this.#showThread(room, thread);
    else this.#hideThread(room);
    this.#reveal();
  }

  #go(fields) {
    const hash = new URLSearchParams(fields).toString();
    if (location.hash.slice(1) === hash) this.follow();
    else location.hash = hash;
  }

  #showRoom(room, thread) {
    const { store, people, conversation, composer } = this.#parts;
    if (store.openRoomId === room.roomId) return;
    composer.show(room.roomId, `Message ${people.roomName(room)}`);
    conversation.show(room.roomId);
    if (thread || this.#target) return;
    if (WIDE.matches) composer.focus();
    else at('room-title').focus({ preventScroll: true });
  }

  #closeRoom(unknownId) {
    const { store, openRoom } = this.#parts;
    const previous = store.openRoomId;
    store.open(null);
    if (unknownId) openRoom.open(unknownId);
    else if (previous && !WIDE.matches) document.querySelector(`a[href="#room=${previous}"]`)?.focus();
  }

  #showThread({ roomId }, seq) {
    const { threadPanel, threadComposer } = this.#parts;
    threadPanel.show(roomId, seq);
    threadComposer.show(`${roomId}/${seq}`, 'Reply in thread');
    if (WIDE.matches) threadComposer.focus();
    else at('thread-title').focus({ preventScroll: true });
  }

  /** The focus goes back to where the thread was opened. */
  #hideThread(room) {
    const seq = this.#parts.threadPanel.hide();
    if (seq !== null && room && !this.#target) this.#parts.conversation.focusMessage(seq);
  }

  #closeThread() {
    const { roomId } = place();
    this.#go({ room: roomId });
  }

  async #reveal() {
    const target = this.#target;
    if (!target || target.roomId !== this.#parts.store.openRoomId) return;
    this.#target = null;
    if (await this.#parts.conversation.reveal(target.seq)) return;
    if (target.roomId === this.#parts.store.openRoomId) this.toThread(target.roomId, target.seq);
  }
}

function place() {
  const fields = new URLSearchParams(location.hash.slice(1));
  return { roomId: fields.get('room'), thread: Number(fields.get('thread')) || null };
}
