/** A menu beside the button that opened it: arrow keys, Home and End move, Escape closes, the focus goes back. */
import { h, icon } from './elements.js';

const MARGIN_PX = 8;

export class Menu {
  #element = h('div', { class: 'menu', role: 'menu', popover: 'auto' });
  #anchor = null;
  #home = null;

  constructor() {
    document.body.append(this.#element);
    this.#element.addEventListener('keydown', (event) => this.#move(event));
    this.#element.addEventListener('toggle', ({ newState }) => newState === 'closed' && this.#closed());
  }

  /**
   * Opens at `anchor`. `groups` are lists of { label, icon?, text?, checked?, danger?, act }; a group with `row: true`
   * lies side by side. `checked` makes an item one that is on or off; `act` runs after the menu is closed.
   */
  open(anchor, label, groups) {
    this.#anchor = anchor;
    this.#home = anchor.parentElement.closest('li');
    this.#element.setAttribute('aria-label', label);
    this.#element.replaceChildren(...groups.filter(({ items }) => items.length).map((group) => this.#group(group)));
    anchor.setAttribute('aria-expanded', 'true');
    this.#element.showPopover();
    this.#place(anchor.getBoundingClientRect());
    this.#items[0]?.focus();
  }

  get #items() {
    return [...this.#element.querySelectorAll('button')];
  }

  #group({ items, row = false }) {
    const attributes = { class: row ? 'menu-row' : 'menu-group', role: 'group' };
    return h('div', attributes, ...items.map((item) => this.#item(item)));
  }

  #item({ label, icon: name, text, checked, danger, act }) {
    const either = { role: 'menuitemcheckbox', 'aria-checked': String(checked) };
    const state = checked === undefined ? { role: 'menuitem' } : either;
    const style = danger ? 'danger-item' : null;
    const attributes = { type: 'button', tabindex: -1, class: style, 'aria-label': text ? label : null };
    const words = text ? h('span', { class: 'emoji' }, text) : h('span', { class: 'menu-words' }, label);
    const choose = () => {
      this.#element.hidePopover();
      act();
    };
    const mark = checked && !text ? icon('check') : null;
    const on = { click: choose };
    return h('button', { ...attributes, ...state, on }, name && icon(name), words, mark);
  }

  /** Below the anchor where there is room, else above; on narrow screens the style sheet puts it at the bottom. */
  #place({ left, right, top, bottom }) {
    const { offsetWidth: width, offsetHeight: height, style } = this.#element;
    const below = bottom + height + MARGIN_PX <= innerHeight;
    const x = left + width + MARGIN_PX <= innerWidth ? left : right - width;
    style.setProperty('--x', `${Math.max(MARGIN_PX, x)}px`);
    style.setProperty('--y', `${Math.max(MARGIN_PX, below ? bottom + 4 : top - height - 4)}px`);
  }

  #move(event) {
    const items = this.#items;
    const at = items.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const end = { Home: 0, End: items.length - 1 }[event.key];
    const to = end ?? (step && (this.#next(items, at, step, event.key) + items.length) % items.length);
    if (event.key === 'Tab') this.#element.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    items[to].focus();
  }

  /** Up and down leave a row as a whole. */
  #next(items, at, step, key) {
    const row = items[at]?.closest('.menu-row');
    let to = at + step;
    if (row && (key === 'ArrowDown' || key === 'ArrowUp')) while (row.contains(items[to])) to += step;
    return to;
  }

  #closed() {
    this.#anchor?.setAttribute('aria-expanded', 'false');
    const lost = document.activeElement === document.body || this.#element.contains(document.activeElement);
    // The message may have been drawn anew meanwhile.
    const back = this.#anchor?.isConnected ? this.#anchor : this.#home?.querySelector('[data-do=more]');
    if (lost) back?.focus({ preventScroll: true });
    this.#anchor = null;
  }
}
