/**
 * One line of a conversation: a stored message, or one of the outbox that has no ack yet.
 *
 * Both become the same `item`, so that a message keeps its place and its node when its ack comes.
 */
import { h, icon } from './elements.js';
import { personAvatar } from './avatar.js';
import { sameDay, sentence, timeOf } from './wording.js';

const GROUP_WITHIN_MS = 5 * 60_000;

export function storedItem(message, userId) {
  const own = message.senderId === userId;
  const key = own && message.clientId ? `client:${message.clientId}` : `seq:${message.seq}`;
  return { ...message, key, own, state: 'sent' };
}

export function pendingItem(entry, userId) {
  return { ...entry, key: `client:${entry.clientId}`, own: true, senderId: userId, unsent: true };
}

/** Whether `item` continues the run of messages that `previous` belongs to. */
export function continues(item, previous) {
  return (
    previous?.senderId === item.senderId &&
    sameDay(previous.createdAt, item.createdAt) &&
    new Date(item.createdAt) - new Date(previous.createdAt) < GROUP_WITHIN_MS
  );
}

/** Fills a list row. `place`: { first, last } of its run, `named`: whether the room shows who writes. */
export function fillRow(row, item, place, named, actions) {
  row.className = [
    'message',
    item.own ? 'own' : 'other',
    place.first && 'first',
    place.last && 'last',
    named && !item.own && 'named',
    item.state !== 'sent' && item.state,
  ]
    .filter(Boolean)
    .join(' ');
  const text = item.deletedAt ? 'Message deleted' : (item.text ?? '');
  row.replaceChildren(
    h('span', { class: 'visually-hidden' }, item.own ? 'You: ' : `${item.senderId}: `),
    named && !item.own ? gutter(item, place) : '',
    h(
      'div',
      { class: 'bubble' },
      named && !item.own && place.first && h('span', { class: 'sender', 'aria-hidden': 'true' }, item.senderId),
      h('p', { class: item.deletedAt ? 'text deleted' : 'text', dir: 'auto' }, text),
      h('span', { class: 'meta' }, item.editedAt && 'edited', time(item), item.own && mark(item)),
    ),
    item.state === 'failed' ? failure(item, actions) : '',
  );
}

function gutter(item, place) {
  return h('span', { class: 'gutter' }, place.first && personAvatar(item.senderId));
}

function time({ createdAt }) {
  return h('time', { datetime: createdAt, title: new Date(createdAt).toLocaleString() }, timeOf(createdAt));
}

/** The delivery mark: receipts can make more of the last one. */
function mark({ state }) {
  const [name, words] = { pending: ['clock', 'Sending'], failed: ['alert', 'Not sent'], sent: ['check', 'Sent'] }[state];
  return h('span', { class: 'mark', title: words }, icon(name), h('span', { class: 'visually-hidden' }, words));
}

function failure({ clientId, error }, { retry, discard }) {
  return h(
    'div',
    { class: 'failure' },
    h('span', {}, `Not sent. ${sentence(error)}`),
    h('button', { type: 'button', class: 'link', on: { click: () => retry(clientId) } }, 'Retry'),
    h('button', { type: 'button', class: 'link', on: { click: () => discard(clientId) } }, 'Discard'),
  );
}
