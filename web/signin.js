/** The sign-in screen: paste a token, or take one of those that a development server hands out. */
import { h } from './elements.js';
import { personAvatar } from './avatar.js';

export class SignIn {
  /** User ids of the development tokens; empty on a production server. */
  developmentUsers = [];
  #parts;
  #onToken;

  constructor(parts, onToken) {
    this.#parts = parts;
    this.#onToken = onToken;
    parts.form.addEventListener('submit', (event) => {
      event.preventDefault();
      const token = parts.input.value.trim();
      if (token) this.#take(token);
      else this.show('Paste a token first.');
    });
  }

  /** Shows the screen, with a sentence when something went wrong. */
  show(problem = '') {
    this.#parts.problem.textContent = problem;
    this.#parts.problem.hidden = !problem;
    this.busy('');
    this.loadTokens();
  }

  busy(text) {
    this.#parts.status.textContent = text;
    this.#parts.root.toggleAttribute('data-busy', Boolean(text));
    for (const button of this.#parts.root.querySelectorAll('button')) button.disabled = Boolean(text);
  }

  /** Development tokens are short-lived, so they are fetched each time the screen is shown. */
  async loadTokens() {
    const tokens = await fetchTokens();
    this.developmentUsers = tokens.map(({ userId }) => userId);
    this.#parts.development.hidden = tokens.length === 0;
    this.#parts.tokens.replaceChildren(...tokens.map((one) => h('li', {}, this.#button(one))));
  }

  /** A fresh token of this user where the server hands them out, else undefined. */
  async tokenOf(userId) {
    return (await fetchTokens()).find((one) => one.userId === userId)?.token;
  }

  #button({ userId, token }) {
    const words = h('span', { class: 'continue-words' }, 'Continue as ', h('strong', {}, userId));
    const on = { click: () => this.#take(token) };
    return h('button', { type: 'button', class: 'continue', on }, personAvatar(userId), words);
  }

  #take(token) {
    this.#parts.problem.hidden = true;
    this.#parts.input.value = '';
    this.#onToken(token);
  }
}

async function fetchTokens() {
  try {
    const answer = await fetch('/dev/tokens', { headers: { accept: 'application/json' } });
    return answer.ok ? (await answer.json()).tokens : [];
  } catch {
    return [];
  }
}
