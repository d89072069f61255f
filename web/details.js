/** The details of the open room: its id and link, its members, inviting and leaving. */
import { h } from './elements.js';
import { personAvatar } from './avatar.js';
import { closable, openDialog, submitWith, userIds } from './dialogs.js';
import { roomKind, roomName, sentence } from './wording.js';

const MEMBERS_MAX = 100;

export class RoomDetails {
  #dialog;
  #connection;
  #store;
  #room = null;

  constructor(dialog, connection, store) {
    this.#dialog = dialog;
    this.#connection = connection;
    this.#store = store;
    closable(dialog);
    submitWith(dialog, (form) => this.#invite(form));
    this.#part('copy').addEventListener('click', () => this.#copy());
    this.#part('leave').addEventListener('click', () => this.#leave());
    store.addEventListener('rooms', () => dialog.open && !store.rooms.has(this.#room.roomId) && dialog.close());
    store.addEventListener('room', ({ detail }) => dialog.open && detail === this.#room.roomId && this.#loadMembers());
  }

  open(room) {
    this.#room = room;
    openDialog(this.#dialog);
    const direct = room.kind === 'direct';
    this.#part('title').textContent = roomName(room);
    this.#part('kind').textContent = roomKind(room);
    this.#part('id').value = room.roomId;
    this.#part('copy').textContent = 'Copy link';
    this.#part('leave').textContent = 'Leave';
    this.#part('leave').hidden = direct;
    this.#part('invite').hidden = !mayInvite(room);
    this.#part('members').replaceChildren();
    this.#loadMembers();
  }

  #part(name) {
    return this.#dialog.querySelector(`[data-part=${name}]`);
  }

  async #loadMembers() {
    const { roomId } = this.#room;
    this.#part('kind').textContent = roomKind(this.#room);
    try {
      const { members, nextCursor } = await this.#connection.request('room:members', { roomId, limit: MEMBERS_MAX });
      if (roomId !== this.#room.roomId) return;
      const rows = members.map((member) => memberRow(member, this.#store.userId));
      if (nextCursor) rows.push(h('li', { class: 'hint' }, `The first ${MEMBERS_MAX} are shown.`));
      this.#part('members').replaceChildren(...rows);
    } catch (error) {
      this.#part('members').replaceChildren(h('li', { class: 'hint' }, sentence(error.code, error.message)));
    }
  }

  async #invite(form) {
    const ids = userIds(form.get('userIds'));
    const { added } = await this.#connection.request('room:invite', { roomId: this.#room.roomId, userIds: ids });
    this.#dialog.querySelector('form').reset();
    this.#part('invited').textContent = added.length ? `Added ${added.join(', ')}.` : 'Nobody was added.';
    this.#loadMembers();
  }

  async #copy() {
    const field = this.#part('id');
    try {
      await navigator.clipboard.writeText(`${location.origin}/#room=${field.value}`);
      this.#part('copy').textContent = 'Copied';
    } catch {
      field.select();
    }
  }

  /** The first press asks, the second leaves. */
  async #leave() {
    const button = this.#part('leave');
    if (button.textContent === 'Leave') {
      button.textContent = 'Really leave?';
      return;
    }
    try {
      await this.#connection.request('room:leave', { roomId: this.#room.roomId });
      this.#dialog.close();
    } catch (error) {
      button.textContent = 'Leave';
      const problem = this.#dialog.querySelector('.problem');
      problem.textContent = sentence(error.code, error.message);
      problem.hidden = false;
    }
  }
}

function mayInvite({ kind, role }) {
  return kind === 'group' || (kind === 'channel' && role !== 'member');
}

function memberRow({ userId, name, role }, ownId) {
  const words = name ? `${name} (${userId})` : userId;
  return h(
    'li',
    { class: 'member' },
    personAvatar(userId),
    h('span', { class: 'member-name', dir: 'auto' }, userId === ownId ? `${words} (you)` : words),
    role !== 'member' && h('span', { class: 'role' }, role),
  );
}
