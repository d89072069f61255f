/** Completes @names while a message is written: the arrow keys choose, Enter or Tab takes, Escape closes. */
import { h } from './elements.js';
import { EVERYBODY } from './mentions.js';

const SHOWN_MAX = 8;
const BEGUN = /(?:^|[\s([])@([\p{L}\p{N}_.:@-]{0,64})$/u;

export class Completion {
  #input;
  #list;
  #people;
  #candidates;
  #options = [];
  #at = 0;

  /** `candidates()` gives what can be mentioned: user ids, perhaps EVERYBODY first. */
  constructor(input, list, people, members, candidates) {
    this.#input = input;
    this.#list = list;
    this.#people = people;
    this.#candidates = candidates;
    input.setAttribute('aria-autocomplete', 'list');
    input.setAttribute('aria-controls', list.id);
    for (const type of ['input', 'click']) input.addEventListener(type, () => this.#update());
    members.addEventListener('change', () => document.activeElement === input && this.#update());
    input.addEventListener('blur', () => this.close());
    input.addEventListener('keydown', (event) => this.#key(event));
    list.addEventListener('pointerdown', (event) => {
      event.preventDefault(); // The focus stays in the text.
      const option = event.target.closest('[role=option]');
      if (option) this.#take([...list.children].indexOf(option));
    });
  }

  close() {
    this.#options = [];
    this.#render();
  }

  #update() {
    const begun = this.#begun();
    const wanted = begun?.toLowerCase();
    const fits = (id) => wordsOf(id, this.#people).some((word) => word.toLowerCase().startsWith(wanted));
    this.#options = begun === undefined ? [] : this.#candidates().filter(fits).slice(0, SHOWN_MAX);
    if (this.#options.length === 1 && this.#options[0] === begun) this.#options = [];
    this.#at = 0;
    this.#render();
  }

  /** What stands between the last @ and the cursor, or undefined. */
  #begun() {
    const { value, selectionStart, selectionEnd } = this.#input;
    if (selectionStart !== selectionEnd) return undefined;
    return BEGUN.exec(value.slice(0, selectionStart))?.[1];
  }

  #render() {
    const rows = this.#options.map((id, index) => {
      const name = id === EVERYBODY ? 'Everybody in this room' : this.#people.name(id);
      const selected = String(index === this.#at);
      return h(
        'li',
        { role: 'option', id: `${this.#list.id}-${index}`, 'aria-selected': selected },
        id !== EVERYBODY && this.#people.avatar(id),
        h('strong', {}, id === EVERYBODY ? id : `@${id}`),
        name !== id && h('span', { class: 'hint' }, name),
      );
    });
    this.#list.replaceChildren(...rows);
    this.#list.hidden = rows.length === 0;
    if (rows.length) this.#input.setAttribute('aria-activedescendant', rows[this.#at].id);
    else this.#input.removeAttribute('aria-activedescendant');
  }

  #key(event) {
    const { length } = this.#options;
    if (!length || event.isComposing || event.shiftKey) return;
    if (event.key === 'ArrowDown') this.#at = (this.#at + 1) % length;
    else if (event.key === 'ArrowUp') this.#at = (this.#at + length - 1) % length;
    else if (event.key === 'Escape') this.#options = [];
    else if (event.key === 'Enter' || event.key === 'Tab') return this.#take(this.#at, event);
    else return;
    stop(event);
    this.#render();
  }

  #take(index, event) {
    if (event) stop(event);
    const id = this.#options[index];
    const { selectionStart } = this.#input;
    const from = selectionStart - this.#begun().length - 1;
    this.#input.setRangeText(`${id === EVERYBODY ? id : `@${id}`} `, from, selectionStart, 'end');
    this.#input.dispatchEvent(new Event('input', { bubbles: true }));
    this.close();
  }
}

/** What one may type to find somebody: the id, the name, or a later word of the name. */
function wordsOf(id, people) {
  if (id === EVERYBODY) return ['room', 'everybody'];
  const name = people.name(id);
  return [id, name, ...name.split(/\s+/)];
}

/** The composer listens to the same keys. */
function stop(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}
