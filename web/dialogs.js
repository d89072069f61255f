/** The dialogs that lead to a room: start a new one, or open one by its id. Native modal dialogs keep the focus. */
import { h } from './elements.js';
import { isMember } from './store.js';
import { sentence } from './wording.js';

/** Runs `work` for a dialog's form: busy meanwhile, closed when it is done, a sentence in the dialog when it fails. */
export function submitWith(dialog, work) {
  const form = dialog.querySelector('form');
  const problem = dialog.querySelector('.problem');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = form.querySelector('[type=submit]');
    button.disabled = true;
    problem.hidden = true;
    try {
      await work(new FormData(form));
    } catch (error) {
      problem.textContent = sentence(error.code, error.details?.[0]?.message ?? error.message);
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

/** Opens a dialog with its form empty. */
export function openDialog(dialog) {
  dialog.querySelector('form')?.reset();
  const problem = dialog.querySelector('.problem');
  if (problem) problem.hidden = true;
  if (!dialog.open) dialog.showModal();
}

/** Buttons marked data-close close their dialog; Escape and `closedby` are the browser's. */
export function closable(dialog) {
  dialog.addEventListener('click', (event) => {
    if (event.target.closest('[data-close]')) dialog.close();
  });
}

export function userIds(text) {
  return [...new Set(text.split(/[\s,;]+/).filter(Boolean))];
}

export class NewRoomDialog {
  #dialog;

  constructor(dialog, connection, onRoom) {
    this.#dialog = dialog;
    closable(dialog);
    for (const radio of dialog.querySelectorAll('[name=kind]')) radio.addEventListener('change', () => this.#adapt());
    submitWith(dialog, async (form) => {
      const { room } = await connection.request('room:create', newRoom(form));
      dialog.close();
      onRoom(room);
    });
  }

  /** `suggestions` are user ids offered while typing. */
  open(suggestions) {
    openDialog(this.#dialog);
    this.#adapt();
    const options = suggestions.map((userId) => h('option', { value: userId }));
    this.#dialog.querySelector('datalist').replaceChildren(...options);
    this.#dialog.querySelector('[name=peer]').focus();
  }

  #adapt() {
    const { value } = this.#dialog.querySelector('[name=kind]:checked');
    for (const field of this.#dialog.querySelectorAll('[data-kinds]')) {
      field.hidden = !field.dataset.kinds.split(' ').includes(value);
      for (const input of field.querySelectorAll('input')) input.disabled = field.hidden;
    }
  }
}

function newRoom(form) {
  const kind = form.get('kind');
  if (kind === 'direct') return { kind, memberIds: [form.get('peer').trim()] };
  return { kind, title: form.get('title').trim(), memberIds: userIds(form.get('members') ?? '') };
}

export class OpenRoomDialog {
  #dialog;

  constructor(dialog, connection, store, onRoom) {
    this.#dialog = dialog;
    closable(dialog);
    submitWith(dialog, async (form) => {
      const roomId = form.get('roomId').trim();
      const room = store.rooms.get(roomId) ?? (await enter(connection, roomId));
      dialog.close();
      onRoom(room);
    });
  }

  open(roomId = '') {
    openDialog(this.#dialog);
    this.#dialog.querySelector('[name=roomId]').value = roomId;
  }
}

/** A room one is in is opened; a channel is joined, also where the server shows it to members only. */
async function enter(connection, roomId) {
  try {
    const { room } = await connection.request('room:get', { roomId });
    if (isMember(room)) return room;
  } catch (error) {
    if (error.code !== 'NOT_FOUND' && error.code !== 'FORBIDDEN') throw error;
  }
  return (await connection.request('room:join', { roomId })).room;
}
