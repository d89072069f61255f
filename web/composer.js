/**
 * Where messages are written and edited: Enter sends, Shift+Enter breaks the line, Escape gives up a reply or an edit,
 * the up arrow in an empty field edits one's last message. Drafts are kept per room or thread while the page lives.
 */
const TEXT_MAX = 10_000; // Code points (protocol, section 2).
const WARN_FROM = 9_000;
const EMPTY = { text: '', context: null };

export class Composer {
  #parts;
  #on;
  #place = null;
  #context = null;
  #drafts = new Map();

  /**
   * `on.send(text, context)` gives a sentence, or the promise of one, when the text cannot be taken, and it then
   * stays; `context` is null, { reply: message } or { edit: message }. `on.typed(empty)` follows every change,
   * `on.editLast()` the up arrow.
   */
  constructor(parts, on) {
    this.#parts = parts;
    this.#on = on;
    parts.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    parts.input.addEventListener('input', () => {
      this.#measure();
      if (!this.#context?.edit) on.typed(!parts.input.value.trim());
    });
    parts.input.addEventListener('keydown', (event) => this.#key(event));
    parts.cancel.addEventListener('click', () => this.cancel());
  }

  /** Shows the draft of a room or thread. */
  show(place, placeholder) {
    if (this.#place && !this.#context?.edit) {
      this.#drafts.set(this.#place, { text: this.#parts.input.value, context: this.#context });
    }
    this.#place = place;
    const { text, context } = this.#drafts.get(place) ?? EMPTY;
    this.#parts.input.placeholder = placeholder;
    this.#fill(text, context);
  }

  /** The name of where it leads may come later. */
  rename(placeholder) {
    this.#parts.input.placeholder = placeholder;
  }

  reset() {
    this.#drafts.clear();
    this.#place = null;
    this.#fill('', null);
  }

  focus() {
    this.#parts.input.focus({ preventScroll: true });
  }

  /** The next message replies to this one; `name` is its sender's. */
  reply(message, name) {
    if (this.#context?.edit) this.cancel();
    this.#fill(this.#parts.input.value, { reply: message, name });
    this.focus();
  }

  /** The text of this message is edited; what was being written comes back afterwards. */
  edit(message) {
    const draft = { text: this.#parts.input.value, context: this.#context };
    if (!this.#context?.edit) this.#drafts.set(this.#place, draft);
    this.#fill(message.text, { edit: message });
    this.focus();
    this.#parts.input.setSelectionRange(message.text.length, message.text.length);
  }

  /** Ends a reply or an edit. */
  cancel() {
    const { text, context } = this.#context?.edit ? (this.#drafts.get(this.#place) ?? EMPTY) : EMPTY;
    this.#fill(this.#context?.edit ? text : this.#parts.input.value, context);
    this.focus();
  }

  #fill(text, context) {
    const { input, bar, barText, cancel, button } = this.#parts;
    this.#context = context;
    input.value = text;
    bar.hidden = !context;
    const reply = context?.reply ? `Replying to ${context.name}: ${context.reply.text ?? ''}` : '';
    barText.textContent = context?.edit ? 'Editing your message' : reply;
    cancel.setAttribute('aria-label', context?.edit ? 'Cancel editing' : 'Cancel reply');
    button.setAttribute('aria-label', context?.edit ? 'Save' : 'Send');
    button.title = context?.edit ? 'Save' : 'Send';
    this.#measure();
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === 'Escape' && this.#context) {
      event.stopPropagation();
      this.cancel();
    } else if (event.key === 'ArrowUp' && !this.#parts.input.value && !this.#context && this.#on.editLast()) {
      event.preventDefault();
    }
  }

  async #send() {
    const { input } = this.#parts;
    const text = input.value.replaceAll('\0', '').trim();
    if (!text || lengthOf(text) > TEXT_MAX) return;
    const [place, context] = [this.#place, this.#context];
    const taken = this.#on.send(text.toWellFormed?.() ?? text, context);
    const problem = typeof taken === 'string' ? taken : await taken;
    if (place !== this.#place || context !== this.#context) return;
    if (problem) this.#say(problem, true);
    else if (context?.edit) this.cancel();
    else this.#fill('', null);
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
