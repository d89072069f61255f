/** Where messages are written: Enter sends, Shift+Enter breaks the line; drafts are kept per room while the page lives. */
const TEXT_MAX = 10_000; // Code points (protocol, section 2).
const WARN_FROM = 9_000;

export class Composer {
  #parts;
  #onSend;
  #roomId = null;
  #drafts = new Map();

  /** `onSend(roomId, text)` gives a sentence when the message cannot be taken, and the text then stays. */
  constructor(parts, onSend) {
    this.#parts = parts;
    this.#onSend = onSend;
    parts.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    parts.input.addEventListener('input', () => this.#measure());
    parts.input.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
  }

  show(roomId, name) {
    this.#drafts.set(this.#roomId, this.#parts.input.value);
    this.#roomId = roomId;
    this.#parts.input.value = this.#drafts.get(roomId) ?? '';
    this.#parts.input.placeholder = `Message ${name}`;
    this.#measure();
  }

  reset() {
    this.#drafts.clear();
    this.#roomId = null;
    this.#parts.input.value = '';
  }

  focus() {
    this.#parts.input.focus({ preventScroll: true });
  }

  #send() {
    const { input } = this.#parts;
    const text = input.value.replaceAll('\0', '').trim();
    if (!text || lengthOf(text) > TEXT_MAX) return;
    const problem = this.#onSend(this.#roomId, text.toWellFormed?.() ?? text);
    if (!problem) input.value = '';
    this.#measure();
    if (problem) this.#say(problem, true);
    this.focus();
  }

  #measure() {
    const { input, button } = this.#parts;
    const length = lengthOf(input.value.trim());
    const over = length > TEXT_MAX;
    const difference = Math.abs(TEXT_MAX - length).toLocaleString();
    if (over) this.#say(`${difference} characters too many`, true);
    else this.#say(length < WARN_FROM ? '' : `${difference} characters left`);
    input.setAttribute('aria-invalid', String(over));
    button.disabled = over || length === 0;
    input.style.height = 'auto';
    input.style.height = `${input.scrollHeight + input.offsetHeight - input.clientHeight}px`;
  }

  #say(text, wrong = false) {
    const { count } = this.#parts;
    count.hidden = !text;
    count.textContent = text;
    count.classList.toggle('over', wrong);
  }
}

function lengthOf(text) {
  return text.length < WARN_FROM ? text.length : [...text].length;
}
