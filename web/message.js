/**
 * One line of a conversation: a stored message, or one of the outbox that has no ack yet.
 *
 * Both become the same `view`, plain data that says all that is shown, so that a message keeps its place and its node
 * when its ack comes, and is drawn again only when something of it has changed. Its buttons carry `data-do`.
 */
import { h, icon } from './elements.js';
import { textNodes } from './mentions.js';
import { sameDay, sentence, timeOf } from './wording.js';

const GROUP_WITHIN_MS = 5 * 60_000;
const LABEL_MAX = 60;

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

/** What buttons of this message are called, so that each has a name of its own. */
export function brief(view) {
  const text = view.deletedAt ? 'deleted message' : (view.text ?? '');
  return `${view.name}: ${text.length > LABEL_MAX ? `${text.slice(0, LABEL_MAX)}…` : text}`;
}

/** Fills a list row from its view; see MessageList for the view's fields. */
export function fillRow(row, view, people) {
  const named = view.named && !view.own;
  const state = view.state !== 'sent' && view.state;
  const place = [view.first && 'first', view.last && 'last', named && 'named'];
  row.className = ['message', view.own ? 'own' : 'other', ...place, state, view.mentionsMe && 'to-me']
    .filter(Boolean)
    .join(' ');
  row.replaceChildren(
    h('span', { class: 'visually-hidden' }, view.own ? 'You: ' : `${view.name}: `),
    named ? h('span', { class: 'gutter' }, view.first && people.avatar(view.senderId)) : '',
    h(
      'div',
      { class: 'body' },
      bubble(view, people, named),
      view.state === 'failed' ? failure(view) : '',
      view.reactions.length ? reactions(view) : '',
      view.thread && view.inRoom ? threadLink(view) : '',
      view.unsent || (view.deletedAt && !view.thread) ? '' : tools(view),
    ),
  );
}

function bubble(view, people, named) {
  const text = view.text ?? '';
  const words = view.deletedAt ? ['Message deleted'] : textNodes(text, view.mentions, people.me, (id) => people.name(id));
  return h(
    'div',
    { class: 'bubble' },
    named && view.first && h('span', { class: 'sender', 'aria-hidden': 'true' }, view.name),
    view.quote && quote(view.quote),
    h('p', { class: view.deletedAt ? 'text deleted' : 'text', dir: 'auto' }, ...words),
    h(
      'span',
      { class: 'meta' },
      view.pinned && pin(),
      view.editedAt && !view.deletedAt && 'edited',
      time(view),
      view.own && mark(view.mark),
    ),
  );
}

function quote({ name, text }) {
  return h(
    'button',
    { type: 'button', class: 'quote', 'data-do': 'quote' },
    h('span', { class: 'visually-hidden' }, 'In reply to '),
    h('strong', {}, name),
    h('span', { class: 'visually-hidden' }, ': '),
    h('span', { class: 'quote-text', dir: 'auto' }, text),
  );
}

function pin() {
  return h('span', { class: 'mark', title: 'Pinned' }, icon('pin'), h('span', { class: 'visually-hidden' }, 'Pinned'));
}

function time({ createdAt }) {
  return h('time', { datetime: createdAt, title: new Date(createdAt).toLocaleString() }, timeOf(createdAt));
}

/** The delivery mark: `{ icon, words, count, read }`. */
function mark({ name, words, count, read }) {
  const attributes = { class: read ? 'mark read' : 'mark', title: words };
  const shown = count ? h('span', { 'aria-hidden': 'true' }, String(count)) : null;
  return h('span', attributes, icon(name), shown, h('span', { class: 'visually-hidden' }, words));
}

function reactions(view) {
  const chips = view.reactions.map(([emoji, count, mine]) => {
    const label = `${emoji} ${count}${mine ? ', yours too' : ''}`;
    const attributes = { 'data-do': 'react', 'data-emoji': emoji, 'aria-pressed': String(mine), 'aria-label': label };
    const shown = [h('span', { class: 'emoji' }, emoji), String(count)];
    return h('button', { type: 'button', class: 'reaction', ...attributes }, ...shown);
  });
  return h('div', { class: 'reactions', role: 'group', 'aria-label': 'Reactions' }, ...chips);
}

function threadLink({ thread: { count, lastAt } }) {
  const words = `${count} ${count === 1 ? 'reply' : 'replies'}`;
  const last = h('span', { class: 'thread-last' }, `last ${timeOf(lastAt)}`);
  return h('button', { type: 'button', class: 'thread-link', 'data-do': 'thread' }, icon('thread'), words, last);
}

function tools(view) {
  const tool = (name, what, label) => {
    const attributes = { 'data-do': what, 'aria-label': `${label}: ${brief(view)}`, title: label };
    return h('button', { type: 'button', class: 'row-tool', ...attributes }, icon(name));
  };
  const more = tool('more', 'more', 'Actions');
  more.setAttribute('aria-haspopup', 'menu');
  const quick = view.deletedAt ? [] : [view.mayReact && tool('smile', 'add', 'React'), tool('reply', 'reply', 'Reply')];
  return h('div', { class: 'row-tools' }, ...quick, more);
}

function failure({ error }) {
  return h(
    'div',
    { class: 'failure' },
    h('span', {}, `Not sent. ${sentence(error)}`),
    h('button', { type: 'button', class: 'link', 'data-do': 'retry' }, 'Retry'),
    h('button', { type: 'button', class: 'link', 'data-do': 'discard' }, 'Discard'),
  );
}
