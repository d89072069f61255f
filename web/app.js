/** The page's composition root: makes the parts, joins them, and goes between sign-in, room list and room. */
import { Connection } from './connection.js';
import { Composer } from './composer.js';
import { Conversation } from './conversation.js';
import { RoomDetails } from './details.js';
import { NewRoomDialog, OpenRoomDialog } from './dialogs.js';
import { coalesce, h } from './elements.js';
import { Feed } from './feed.js';
import { Outbox } from './outbox.js';
import { RoomList } from './rooms.js';
import { SignIn } from './signin.js';
import { Status } from './status.js';
import { load, save } from './storage.js';
import { Store } from './store.js';
import { personAvatar } from './avatar.js';
import { roomName, sentence } from './wording.js';

const TOKEN_KEY = 'parley.token';
const SIGN_IN_AGAIN = new Set(['AUTH_REQUIRED', 'TOKEN_INVALID', 'TOKEN_EXPIRED', 'TOKEN_REVOKED', 'USER_BLOCKED']);
const WIDE = window.matchMedia('(min-width: 721px)');

const at = (id) => document.getElementById(id);
const parts = (names) => Object.fromEntries(Object.entries(names).map(([name, id]) => [name, at(id)]));

const store = new Store();
const connection = new Connection();
const outbox = new Outbox(connection);
const feed = new Feed(connection, store, outbox);

new RoomList(store, { list: at('rooms'), empty: at('rooms-empty') });
new Status(connection, { pill: at('status'), banner: at('banner'), text: at('banner-text'), again: at('banner-again') });
const conversation = new Conversation(store, feed, outbox, {
  ...parts({ avatar: 'room-avatar', title: 'room-title', kind: 'room-kind', scroller: 'messages', list: 'message-list' }),
  ...parts({ top: 'top', topText: 'top-text', retry: 'top-retry', jump: 'jump', jumpText: 'jump-text' }),
});
const composer = new Composer(
  parts({ form: 'composer', input: 'composer-input', count: 'composer-count', button: 'composer-send' }),
  send,
);
const signIn = new SignIn(
  parts({
    root: 'sign-in',
    form: 'token-form',
    input: 'token-input',
    problem: 'sign-in-problem',
    status: 'sign-in-status',
    development: 'development',
    tokens: 'development-tokens',
  }),
  enter,
);
const details = new RoomDetails(at('details'), connection, store);
const newRoom = new NewRoomDialog(at('new-room'), connection, goTo);
const openRoom = new OpenRoomDialog(at('open-room'), connection, store, goTo);

/** Signs in with a token and keeps it for this tab. */
async function enter(token) {
  save(TOKEN_KEY, token);
  signIn.busy('Signing in…');
  try {
    await connection.open(token);
  } catch {
    leave('The Socket.IO client is missing on the server: run make there, then load this page again.');
  }
}

/** Back to the sign-in screen; unsent messages outlive an expired token, not a sign-out. */
function leave(problem = '', forget = false) {
  save(TOKEN_KEY, null);
  connection.close();
  outbox.close({ forget });
  feed.reset();
  store.reset();
  if (forget) history.replaceState(null, '', '/');
  composer.reset();
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  at('chat').hidden = true;
  at('sign-in').hidden = false;
  document.title = 'Parley';
  signIn.show(problem);
}

/** The first session:ready of a sign-in opens the chat; later ones only fill gaps. */
function connected() {
  if (!at('chat').hidden) {
    if (store.openRoom && !store.timelines.get(store.openRoomId)?.loaded) conversation.load();
    return;
  }
  at('sign-in').hidden = true;
  at('chat').hidden = false;
  at('me').replaceChildren(personAvatar(store.userId), h('span', { class: 'me-name' }, store.userId));
  suggest();
  navigate();
}

/** Somebody to write to, for a first visitor with an empty list. */
function suggest() {
  const others = signIn.developmentUsers.filter((userId) => userId !== store.userId);
  const buttons = others.map((userId) => {
    const on = { click: () => startDirect(userId) };
    return h('button', { type: 'button', class: 'secondary', on }, `Write to ${userId}`);
  });
  at('suggestions').replaceChildren(...buttons);
}

async function startDirect(userId) {
  try {
    goTo((await connection.request('room:create', { kind: 'direct', memberIds: [userId] })).room);
  } catch (error) {
    at('suggestions').replaceChildren(h('p', { class: 'problem' }, sentence(error.code, error.message)));
  }
}

function goTo(room) {
  store.putRooms([room]);
  if (roomInHash() === room.roomId) navigate();
  else location.hash = `room=${room.roomId}`;
}

function roomInHash() {
  return new URLSearchParams(location.hash.slice(1)).get('room');
}

/** Follows the location hash: a room one is in is shown, any other id is offered to be opened. */
async function navigate() {
  if (at('chat').hidden) return;
  const roomId = roomInHash();
  if (roomId && !store.rooms.has(roomId)) await feed.fetchRoom(roomId).catch(() => {});
  if (roomId !== roomInHash() || !store.userId) return;
  const room = store.rooms.get(roomId);
  at('chat').dataset.screen = room ? 'room' : 'list';
  at('no-room').hidden = Boolean(room);
  at('room').hidden = !room;
  if (room) showRoom(room);
  else closeRoom(roomId);
}

function showRoom(room) {
  if (store.openRoomId === room.roomId) return;
  composer.show(room.roomId, roomName(room));
  conversation.show(room.roomId);
  if (WIDE.matches) composer.focus();
  else at('room-title').focus({ preventScroll: true });
}

function closeRoom(unknownId) {
  const previous = store.openRoomId;
  store.open(null);
  if (unknownId) openRoom.open(unknownId);
  else if (previous && !WIDE.matches) document.querySelector(`a[href="#room=${previous}"]`)?.focus();
}

function send(roomId, text) {
  if (outbox.full) return 'Too many messages are waiting to be sent. Please send this one later.';
  outbox.add(roomId, text);
  conversation.toBottom();
  return '';
}

function announce({ senderId, roomId, text }) {
  if (senderId === store.userId) return;
  const room = store.rooms.get(roomId);
  const where = room && room.kind !== 'direct' ? ` in ${roomName(room)}` : '';
  at('announcer').textContent = `${senderId}${where}: ${text ?? 'a message'}`;
}

connection.addEventListener('state', () => {
  const { name, code } = connection.state;
  if (name === 'connected') queueMicrotask(connected);
  else if (name === 'refused' && (SIGN_IN_AGAIN.has(code) || at('chat').hidden)) leave(sentence(code));
  else if (at('chat').hidden && name !== 'idle') signIn.busy(code ? `${sentence(code)} Trying again…` : 'Signing in…');
});
store.addEventListener(
  'rooms',
  coalesce(() => {
    document.title = store.totalUnread ? `(${store.totalUnread}) Parley` : 'Parley';
    if (store.openRoomId && !store.openRoom) location.hash = '';
  }),
);
feed.addEventListener('live', ({ detail }) => announce(detail));
window.addEventListener('hashchange', navigate);
at('new-room-button').addEventListener('click', () => newRoom.open(signIn.developmentUsers));
at('open-room-button').addEventListener('click', () => openRoom.open());
at('details-button').addEventListener('click', () => details.open(store.openRoom));
at('sign-out').addEventListener('click', () => leave('', true));

signIn.show();
const token = load(TOKEN_KEY);
if (token) enter(token);
