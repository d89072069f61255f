/** A sentence at the foot of the page, for what went wrong and has no better place; it goes by itself. */
const SHOWN_MS = 7000;

export class Notice {
  #element;
  #timer = 0;

  constructor(element) {
    this.#element = element;
  }

  show(text) {
    clearTimeout(this.#timer);
    this.#element.textContent = text;
    this.#element.hidden = false;
    this.#timer = setTimeout(() => (this.#element.hidden = true), SHOWN_MS);
  }
}
