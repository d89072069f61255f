/** The connection's state in words: a pill beside the user's name, and a banner over the room while it is away. */
import { sentence } from './wording.js';

const WORDS = {
  idle: '',
  connecting: 'Connecting',
  connected: 'Connected',
  reconnecting: 'Reconnecting',
  offline: 'Offline',
  refused: 'Refused',
};

export class Status {
  #connection;
  #parts;

  constructor(connection, parts) {
    this.#connection = connection;
    this.#parts = parts;
    connection.addEventListener('state', () => this.#render());
    parts.again.addEventListener('click', () => connection.reopen());
  }

  #render() {
    const { pill, banner, text, again } = this.#parts;
    const { name, code } = this.#connection.state;
    pill.textContent = WORDS[name];
    pill.dataset.state = name;
    banner.hidden = name === 'connected' || name === 'idle';
    again.hidden = name !== 'refused';
    text.textContent = explain(name, code);
  }
}

function explain(name, code) {
  if (name === 'offline') return 'You are offline. What you write is kept and sent when the connection is back.';
  if (name === 'refused') return sentence(code);
  return `${code ? sentence(code) : 'The connection was lost.'} Reconnecting; what you write is kept and sent then.`;
}
