/** The page's composition root: makes the parts and joins them. Where one goes is in navigation.js. */
import { MessageActions } from './actions.js';
import { Availability } from './availability.js';
import { Connection } from './connection.js';
import { Conversation } from './conversation.js';
import { RoomDetails } from './details.js';
import { NewRoomDialog, OpenRoomDialog } from './dialogs.js';
import { coalesce, h } from './elements.js';
import { EmojiDialog } from './emoji.js';
import { Expiry } from './expiry.js';
import { Feed } from './feed.js';
import { Members } from './members.js';
import { Menu } from './menu.js';
import { Navigation } from './navigation.js';
import { Notice } from './notice.js';
import { Notifications } from './notifications.js';
import { Outbox } from './outbox.js';
import { People } from './people.js';
import { PinsDialog } from './pins.js';
import { ReadersDialog } from './readers.js';
import { Receipts } from './receipts.js';
import { RoomList } from './rooms.js';
import { SignIn } from './signin.js';
import { Status } from './status.js';
import { load, save } from './storage.js';
import { Store } from './store.js';
import { ThreadPanel } from './threadpanel.js';
import { Typing } from './typing.js';
import { MessageViews } from './views.js';
import { sentence } from './wording.js';
import { Writing } from './writing.js';

const TOKEN_KEY = 'parley.token';
const SIGN_IN_AGAIN = new Set(['AUTH_REQUIRED', 'TOKEN_INVALID', 'TOKEN_EXPIRED', 'TOKEN_REVOKED', 'USER_BLOCKED']);

const at = (id) => document.getElementById(id);
const parts = (names) => Object.fromEntries(Object.entries(names).map(([name, id]) => [name, at(id)]));

// What is known, and how it comes here.
const store = new Store();
const connection = new Connection();
const outbox = new Outbox(connection);
const feed = new Feed(connection, store, outbox);
const people = new People(connection, store);
const members = new Members(connection, people);
const receipts = new Receipts(connection, store);
const typing = new Typing(connection, store);
const views = new MessageViews(store, people, members, feed, connection);

// What is shown.
const notice = new Notice(at('notice'));
const menu = new Menu();
const readers = new ReadersDialog(at('readers'), connection, people);
const emoji = new EmojiDialog(at('emoji'));
const actions = new MessageActions({ connection, store, feed, outbox, menu, emoji, readers, notice });
new RoomList({ store, people, typing }, { list: at('rooms'), empty: at('rooms-empty') });
new Status(connection, parts({ pill: 'status', banner: 'banner', text: 'banner-text', again: 'banner-again' }));
new Availability(at('me'), { connection, people, menu, notice });
const conversation = new Conversation(
  { store, feed, outbox, receipts, people, members, typing, views },
  {
    ...parts({ avatar: 'room-avatar', title: 'room-title', kind: 'room-kind', scroller: 'messages' }),
    ...parts({ list: 'message-list', top: 'top', topText: 'top-text', retry: 'top-retry', jump: 'jump' }),
    ...parts({ jumpText: 'jump-text', typing: 'typing', pins: 'pins-button', pinsText: 'pins-text' }),
  },
  (what, view, button) => actions.run(what, view, button, store.openRoomId, roomWays),
);
const threadPanel = new ThreadPanel(
  { store, feed, outbox, views, people, members },
  {
    ...parts({ panel: 'thread', where: 'thread-where', scroller: 'thread-scroller', rootList: 'thread-root' }),
    ...parts({ list: 'thread-list', text: 'thread-text', retry: 'thread-retry' }),
  },
  (what, view, button) => actions.run(what, view, button, store.openRoomId, threadWays),
);
const known = { store, people, members, typing, outbox, connection, actions };
const writing = new Writing(known, () => conversation.toBottom());
const composer = writing.inRoom({
  ...parts({ form: 'composer', input: 'composer-input', count: 'composer-count', button: 'composer-send' }),
  ...parts({ bar: 'composer-bar', barText: 'composer-bar-text', cancel: 'composer-cancel' }),
  options: at('composer-options'),
});
const threadComposer = writing.inThread({
  ...parts({ form: 'thread-composer', input: 'thread-input', count: 'thread-input-count', button: 'thread-send' }),
  ...parts({ bar: 'thread-bar', barText: 'thread-bar-text', cancel: 'thread-cancel', options: 'thread-options' }),
});
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
const openRoom = new OpenRoomDialog(at('open-room'), connection, store, (room) => navigation.toRoom(room));
const navigation = new Navigation({
  store,
  feed,
  people,
  conversation,
  composer,
  threadPanel,
  threadComposer,
  openRoom,
});
const newRoom = new NewRoomDialog(at('new-room'), connection, (room) => navigation.toRoom(room));
const details = new RoomDetails(at('details'), { connection, store, people, members });
const pins = new PinsDialog(at('pins'), { store, people, feed, actions }, (...place) => navigation.toMessage(...place));
const notifications = new Notifications(
  {
    ...parts({ button: 'bell', badge: 'bell-count', dialog: 'notifications', list: 'notifications-list' }),
    ...parts({ text: 'notifications-text', all: 'notifications-all', more: 'notifications-more' }),
  },
  connection,
  (...place) => navigation.toMessage(...place),
);
const expiry = new Expiry(
  parts({ bar: 'expiry', text: 'expiry-text', button: 'expiry-stay', dialog: 'renew' }),
  connection,
  () => signIn.tokenOf(store.userId),
  (token) => save(TOKEN_KEY, token),
);

const toThread = ({ seq }) => navigation.toThread(store.openRoomId, seq);
const original = (view) => store.message(store.openRoomId, view.seq);
const roomWays = {
  thread: toThread,
  quote: ({ replyTo }) => navigation.toMessage(store.openRoomId, replyTo),
  reply: (view) => composer.reply(original(view), view.name),
  edit: (view) => composer.edit(original(view)),
};
const threadWays = {
  thread: toThread,
  reply: () => threadComposer.focus(),
  edit: (view) => threadComposer.edit(original(view)),
};

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
  navigation.reset({ forget });
  for (const part of [feed, people, members, receipts, store, composer, threadComposer]) part.reset();
  expiry.hide();
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
  suggest();
  navigation.follow();
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
    navigation.toRoom((await connection.request('room:create', { kind: 'direct', memberIds: [userId] })).room);
  } catch (error) {
    at('suggestions').replaceChildren(h('p', { class: 'problem' }, sentence(error.code, error.message)));
  }
}

function announce({ senderId, roomId, text }) {
  if (senderId === store.userId) return;
  const room = store.rooms.get(roomId);
  const where = room && room.kind !== 'direct' ? ` in ${people.roomName(room)}` : '';
  at('announcer').textContent = `${people.name(senderId)}${where}: ${text ?? 'a message'}`;
}

connection.addEventListener('state', () => {
  const { name, code } = connection.state;
  if (name === 'connected') queueMicrotask(connected);
  else if (name === 'refused' && (SIGN_IN_AGAIN.has(code) || at('chat').hidden)) leave(sentence(code));
  else if (at('chat').hidden && name !== 'idle') signIn.busy(code ? `${sentence(code)} Trying again…` : 'Signing in…');
});
store.addEventListener(
  'rooms',
  coalesce(() => (document.title = store.totalUnread ? `(${store.totalUnread}) Parley` : 'Parley')),
);
feed.addEventListener('live', ({ detail }) => announce(detail));
notifications.addEventListener('arrived', ({ detail: { title } }) => {
  at('announcer').textContent = `Notification: ${title}`;
});
at('new-room-button').addEventListener('click', () => newRoom.open(signIn.developmentUsers));
at('open-room-button').addEventListener('click', () => openRoom.open());
at('details-button').addEventListener('click', () => details.open(store.openRoom));
at('pins-button').addEventListener('click', () => pins.open(store.openRoomId));
at('sign-out').addEventListener('click', () => leave('', true));

signIn.show();
const token = load(TOKEN_KEY);
if (token) enter(token);
