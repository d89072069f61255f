/** The details of the open room: its id and link, mute and block, its members, inviting and leaving. */
import { h } from './elements.js';
import { isMuted } from './store.js';
import { closable, openDialog, submitWith, userIds } from './dialogs.js';
import { roomKind, sentence, statusWord, timeOf, dayOf } from './wording.js';

const HOUR_MS = 3_600_000;
const FOREVER_MS = 10 * 365 * 24 * HOUR_MS;

export class RoomDetails {
  #dialog;
  #connection;
  #store;
  #people;
  #members;
  #room = null;
  #blocked = false;

  constructor(dialog, { connection, store, people, members }) {
    this.#dialog = dialog;
    this.#connection = connection;
    this.#store = store;
    this.#people = people;
    this.#members = members;
    closable(dialog);
    submitWith(dialog, (form) => this.#invite(form));
    this.#part('copy').addEventListener('click', () => this.#copy());
    this.#part('mute').addEventListener('change', ({ target }) => this.#mute(target.value));
    this.#part('block').addEventListener('click', () => this.#block());
    this.#part('leave').addEventListener('click', () => this.#leave());
    store.addEventListener('rooms', () => dialog.open && !store.rooms.has(this.#room.roomId) && dialog.close());
    store.addEventListener('room', ({ detail }) => dialog.open && detail === this.#room.roomId && this.#renderMute());
    members.addEventListener('change', () => dialog.open && this.#renderMembers());
    people.addEventListener('change', () => dialog.open && this.#renderMembers());
  }

  open(room) {
    this.#room = room;
    openDialog(this.#dialog);
    const direct = room.kind === 'direct';
    this.#part('title').textContent = this.#people.roomName(room);
    this.#part('kind').textContent = roomKind(room);
    this.#part('id').value = room.roomId;
    this.#part('copy').textContent = 'Copy link';
    this.#part('leave').textContent = 'Leave';
    this.#part('leave').hidden = direct;
    this.#part('invite').hidden = !mayInvite(room);
    this.#part('block').hidden = true;
    this.#part('members').replaceChildren();
    this.#renderMute();
    this.#loadMembers();
    if (direct) this.#loadBlock();
  }

  #part(name) {
    return this.#dialog.querySelector(`[data-part=${name}]`);
  }

  async #loadMembers() {
    const { roomId } = this.#room;
    try {
      await this.#members.load(roomId);
    } catch (error) {
      this.#part('members').replaceChildren(h('li', { class: 'hint' }, sentence(error.code, error.message)));
    }
  }

  #renderMembers() {
    const room = this.#store.rooms.get(this.#room.roomId) ?? this.#room;
    this.#part('kind').textContent = roomKind(room);
    const members = this.#members.of(room.roomId);
    const rows = members.map((member) => this.#row(member));
    if (room.memberCount > members.length) {
      rows.push(h('li', { class: 'hint' }, `The first ${members.length} are shown.`));
    }
    this.#part('members').replaceChildren(...rows);
  }

  #row({ userId, role }) {
    const own = userId === this.#store.userId;
    const name = this.#people.name(userId);
    const words = name === userId ? userId : `${name} (${userId})`;
    return h(
      'li',
      { class: 'member' },
      this.#people.avatar(userId),
      h('span', { class: 'member-name', dir: 'auto' }, own ? `${words} (you)` : words),
      !own && h('span', { class: 'hint' }, statusWord(this.#people.status(userId))),
      role !== 'member' && this.#room.kind !== 'direct' && h('span', { class: 'role' }, role),
    );
  }

  #renderMute() {
    const { mutedUntil } = this.#store.rooms.get(this.#room.roomId) ?? this.#room;
    const muted = isMuted({ mutedUntil });
    const forever = muted && new Date(mutedUntil) - Date.now() > FOREVER_MS / 2;
    const words = forever ? 'Muted' : `Muted until ${muted ? `${dayOf(mutedUntil)}, ${timeOf(mutedUntil)}` : ''}`;
    const current = h('option', { value: muted ? 'stay' : 'off' }, muted ? words : 'All messages');
    const others = [
      ['1', 'Mute for 1 hour'],
      ['8', 'Mute for 8 hours'],
      ['forever', 'Mute'],
      muted && ['off', 'No longer mute'],
    ];
    const options = others.filter(Boolean).map(([value, label]) => h('option', { value }, label));
    this.#part('mute').replaceChildren(current, ...options);
  }

  async #mute(choice) {
    const { roomId } = this.#room;
    const ms = choice === 'forever' ? FOREVER_MS : Number(choice) * HOUR_MS;
    const until = choice === 'off' ? null : new Date(Date.now() + ms).toISOString();
    await this.#attempt(async () => {
      const { mutedUntil } = await this.#connection.request('room:mute', { roomId, until });
      this.#store.patchRoom(roomId, { mutedUntil });
    });
    this.#renderMute();
  }

  async #loadBlock() {
    const { peerId } = this.#room;
    try {
      let ack = { nextCursor: null };
      this.#blocked = false;
      do {
        ack = await this.#connection.request('user:blocks', ack.nextCursor ? { cursor: ack.nextCursor } : {});
        this.#blocked ||= ack.userIds.includes(peerId);
      } while (ack.nextCursor && !this.#blocked);
      if (peerId === this.#room.peerId) this.#renderBlock();
    } catch {
      // Without the list there is nothing to offer.
    }
  }

  #renderBlock() {
    const button = this.#part('block');
    const name = this.#people.name(this.#room.peerId);
    button.hidden = false;
    button.textContent = this.#blocked ? `Unblock ${name}` : `Block ${name}`;
  }

  /** Blocking hides each from the other, and their messages here are refused. */
  #block() {
    return this.#attempt(async () => {
      await this.#connection.request(this.#blocked ? 'user:unblock' : 'user:block', { userId: this.#room.peerId });
      this.#blocked = !this.#blocked;
      this.#renderBlock();
    });
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
    button.textContent = 'Leave';
    return this.#attempt(async () => {
      await this.#connection.request('room:leave', { roomId: this.#room.roomId });
      this.#dialog.close();
    });
  }

  async #attempt(work) {
    const problem = this.#dialog.querySelector('.problem');
    problem.hidden = true;
    try {
      await work();
    } catch (error) {
      problem.textContent = sentence(error.code, error.message);
      problem.hidden = false;
    }
  }
}

function mayInvite({ kind, role }) {
  return kind === 'group' || (kind === 'channel' && role !== 'member');
}
