/** The notice that the session is about to end, and the way to go on: a newer token of the same user. */
import { closable, openDialog, submitWith } from './dialogs.js';
import { sentence, timeOf } from './wording.js';

export class Expiry {
  #parts;
  #connection;
  #findToken;
  #onToken;

  /** `findToken()` resolves with a token where the server hands them out; `onToken(token)` keeps the new one. */
  constructor(parts, connection, findToken, onToken) {
    this.#parts = parts;
    this.#connection = connection;
    this.#findToken = findToken;
    this.#onToken = onToken;
    closable(parts.dialog);
    submitWith(parts.dialog, (form) => this.#renew(form.get('token').trim()));
    parts.button.addEventListener('click', () => this.#stay());
    connection.listen({
      'session:expiring': ({ expiresAt }) => this.#show(`You will be signed out at ${timeOf(expiresAt)}.`),
      'session:ready': () => this.hide(),
    });
  }

  hide() {
    this.#parts.bar.hidden = true;
  }

  #show(text) {
    this.#parts.text.textContent = text;
    this.#parts.bar.hidden = false;
  }

  async #stay() {
    const token = await this.#findToken();
    if (!token) return openDialog(this.#parts.dialog);
    try {
      await this.#renew(token);
    } catch (error) {
      this.#show(sentence(error.code, error.message));
    }
  }

  async #renew(token) {
    await this.#connection.renew(token);
    this.#onToken(token);
    this.hide();
    if (this.#parts.dialog.open) this.#parts.dialog.close();
  }
}
