/**
 * Messages as rows with day separators, and walking through them with the keyboard.
 *
 * The list is one stop of the Tab key: the arrow keys go from message to message, Tab goes through the buttons of the
 * one that is current. Presses are told as `onDo(what, view, button)`; a long press on a touch screen is `more`.
 */
import { arrange, h } from './elements.js';
import { continues, fillRow } from './message.js';
import { dayOf, sameDay } from './wording.js';

const LONG_PRESS_MS = 450;
const STEPS = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };

export class MessageList {
  #list;
  #people;
  #onDo;
  #rows = new Map();
  #order = [];
  #current = null;

  constructor(list, people, onDo) {
    this.#list = list;
    this.#people = people;
    this.#onDo = onDo;
    list.addEventListener('click', (event) => this.#pressed(event));
    list.addEventListener('keydown', (event) => this.#walk(event));
    list.addEventListener('focusin', ({ target }) => this.#makeCurrent(target.closest('.message')?.dataset.key));
    this.#watchLongPress();
  }

  clear() {
    this.#rows.clear();
    this.#order = [];
    this.#current = null;
    this.#list.replaceChildren();
  }

  /**
   * Shows items in order; `viewOf(item, place)` completes one to its view. Above the first one past `unreadAfter` goes
   * a line; `since` is a time whose day needs no separator.
   */
  render(items, viewOf, { unreadAfter = null, since = null } = {}) {
    const keys = new Set();
    const lines = items.flatMap((item, index) => {
      const [previous, next] = [items[index - 1], items[index + 1]];
      const before = [];
      const day = previous?.createdAt ?? since;
      if (!day || !sameDay(day, item.createdAt)) before.push(this.#separator(item.createdAt, keys));
      const unread = startsUnread(item, previous, unreadAfter);
      if (unread) before.push(this.#keep('unread', 'unread', keys, fillUnread));
      const place = { first: unread || !continues(item, previous), last: !next || !continues(next, item) };
      return [...before, this.#message(viewOf(item, place), keys)];
    });
    for (const key of this.#rows.keys()) if (!keys.has(key)) this.#rows.delete(key);
    this.#order = items.map(({ key }) => key);
    arrange(this.#list, lines);
    // Whoever comes from outside begins at the newest message.
    const stays = this.#list.contains(document.activeElement) && keys.has(this.#current);
    this.#makeCurrent(stays ? this.#current : this.#order.at(-1));
  }

  /** Puts the focus on a message's own button; false when it is not here. */
  focus(key, what = 'more') {
    const row = this.#rows.get(key)?.row;
    const button = row?.querySelector(`[data-do="${what}"]`) ?? row?.querySelector('[data-do]');
    if (!button) return false;
    this.#makeCurrent(key);
    button.focus();
    return true;
  }

  /** The row of a stored message, or undefined. */
  row(seq) {
    return [...this.#rows.values()].find(({ view }) => view?.seq === seq)?.row;
  }

  #message(view, keys) {
    const signature = JSON.stringify(view);
    return this.#keep(view.key, signature, keys, (row) => this.#fill(row, view), view);
  }

  /** Filling a row anew must not take the focus away. */
  #fill(row, view) {
    const { activeElement } = document;
    const { do: what, emoji } = row.contains(activeElement) ? activeElement.dataset : {};
    fillRow(row, view, this.#people);
    row.dataset.key = view.key;
    this.#mark(row, view.key === this.#current);
    if (!what) return;
    const again = emoji ? `[data-emoji="${CSS.escape(emoji)}"]` : `[data-do="${what}"]`;
    (row.querySelector(again) ?? row.querySelector('[data-do=more]'))?.focus({ preventScroll: true });
  }

  #separator(createdAt, keys) {
    const day = dayOf(createdAt);
    const fill = (row) => {
      row.className = 'day';
      row.replaceChildren(h('span', {}, day));
    };
    return this.#keep(`day:${new Date(createdAt).toDateString()}`, day, keys, fill);
  }

  #keep(key, signature, keys, fill, view = null) {
    keys.add(key);
    const known = this.#rows.get(key);
    if (known?.signature === signature) return known.row;
    const row = known?.row ?? h('li');
    this.#rows.set(key, { row, signature, view });
    fill(row);
    return row;
  }

  #makeCurrent(key) {
    if (!key || key === this.#current) return;
    const before = this.#rows.get(this.#current)?.row;
    if (before) this.#mark(before, false);
    this.#current = key;
    const row = this.#rows.get(key)?.row;
    if (row) this.#mark(row, true);
  }

  #mark(row, current) {
    for (const button of row.querySelectorAll('button')) button.tabIndex = current ? 0 : -1;
  }

  #walk(event) {
    const step = STEPS[event.key];
    const row = event.target.closest('.message');
    if (step === undefined || !row || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const last = this.#order.length - 1;
    let at = Math.min(Math.max(this.#order.indexOf(row.dataset.key) + step, 0), last);
    // A deleted message has nothing to press.
    while (!this.focus(this.#order[at]) && at > 0 && at < last) at += Math.sign(step);
  }

  #pressed(event) {
    const button = event.target.closest('[data-do]');
    const view = this.#rows.get(button?.closest('.message')?.dataset.key)?.view;
    if (view) this.#onDo(button.dataset.do, view, button);
  }

  #watchLongPress() {
    let timer = 0;
    const cancel = () => clearTimeout(timer);
    this.#list.addEventListener('pointerdown', (event) => {
      const row = event.target.closest('.message');
      if (event.pointerType !== 'touch' || !row || event.target.closest('button')) return;
      const open = () => this.focus(row.dataset.key) && row.querySelector('[data-do=more]')?.click();
      timer = setTimeout(open, LONG_PRESS_MS);
    });
    for (const type of ['pointerup', 'pointercancel', 'pointermove']) this.#list.addEventListener(type, cancel);
  }
}

function startsUnread(item, previous, unreadAfter) {
  if (unreadAfter === null || item.own || !(item.seq > unreadAfter)) return false;
  return !previous || previous.seq <= unreadAfter;
}

function fillUnread(row) {
  row.className = 'day unread-line';
  row.replaceChildren(h('span', {}, 'New messages'));
}
