"""The contract as one page for people, /docs/events: every event with its fields, bounds and ack, and all types."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final

from server.catalogue import VERSION, Catalogue, ClientEvent, SentEvent
from server.notation import bounds, words

_CODE: Final = re.compile(r"`([^`]+)`")
_HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Parley: events</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/theme.css">
<link rel="stylesheet" href="/static/reference.css">
</head>
<body class="reference">
"""


def reference_page(catalogue: Catalogue) -> str:
    """The whole page; it needs no script."""
    groups: list[tuple[str, str, Sequence[ClientEvent | SentEvent]]] = [
        ("From clients", "client", catalogue.client_events),
        ("From the server", "server", catalogue.server_events),
    ]
    types = catalogue.things()
    return "\n".join(
        [
            _HEAD,
            '<nav aria-label="Events">',
            *(line for title, prefix, events in groups for line in _contents(title, prefix, events)),
            f"<h2>Types</h2><ul>{''.join(f'<li>{_link(name)}</li>' for name in types)}</ul>",
            '<h2>Errors</h2><ul><li><a href="#errors">All codes</a></li></ul>',
            "</nav>",
            "<main>",
            f"<h1>Events, protocol {VERSION}</h1>",
            '<p>For machines: <a href="/asyncapi.json">asyncapi.json</a>, <a href="/parley.d.ts">parley.d.ts</a>.</p>',
            "<h2>From clients</h2>",
            *(line for event in catalogue.client_events for line in _client_event(event, catalogue)),
            "<h2>From the server</h2>",
            *(line for event in catalogue.server_events for line in _server_event(event, catalogue)),
            "<h2>Types</h2>",
            *(line for name in types for line in _type(name, catalogue)),
            *_errors(catalogue),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _contents(title: str, prefix: str, events: Sequence[ClientEvent | SentEvent]) -> Iterator[str]:
    links = "".join(f'<li><a href="#{prefix}.{event.name}">{event.name}</a></li>' for event in events)
    yield f"<h2>{title}</h2><ul>{links}</ul>"


def _client_event(event: ClientEvent, catalogue: Catalogue) -> Iterator[str]:
    yield f'<section id="client.{event.name}"><h3>{event.name}</h3><p>{_prose(event.about)}</p>'
    yield from _fields("Payload", event.payload, catalogue)
    yield from _fields("Ack", event.reply, catalogue)
    yield "</section>"


def _server_event(event: SentEvent, catalogue: Catalogue) -> Iterator[str]:
    yield f'<section id="server.{event.name}"><h3>{event.name}</h3><p>{_prose(event.about)}</p>'
    if event.payload in catalogue.parents.values():
        yield f"<p>Payload: {_link(event.payload)}</p>"
    else:
        yield from _fields("Payload", event.payload, catalogue)
    yield "</section>"


def _type(name: str, catalogue: Catalogue) -> Iterator[str]:
    yield f'<section id="type.{name}"><h3>{name}</h3><p>{_prose(catalogue.schemas[name]["description"])}</p>'
    yield from _fields("Fields", name, catalogue)
    yield "</section>"


def _fields(title: str, name: str, catalogue: Catalogue) -> Iterator[str]:
    """A table, or a word where there is nothing; with a column for bounds where there are any."""
    schema = catalogue.schemas[name]
    fields = {field: kind for field, kind in schema["properties"].items() if field != "success"}
    if not fields:
        yield f"<p>{title}: nothing</p>"
        return
    bounded = any(map(_notes, fields.values()))
    yield f"<table><caption>{title}</caption><thead><tr><th>field</th><th>type</th>"
    yield f"{'<th>bounds</th>' if bounded else ''}</tr></thead><tbody>"
    for field, kind in fields.items():
        yield f"<tr><td><code>{field}{'' if field in schema.get('required', ()) else '?'}</code></td>"
        yield f"<td>{_linked(words(kind, catalogue), catalogue)}</td>"
        yield f"<td>{_notes(kind)}</td></tr>" if bounded else "</tr>"
    yield "</tbody></table>"


def _errors(catalogue: Catalogue) -> Iterator[str]:
    yield '<section id="errors"><h2>Errors</h2><table><thead><tr><th>code</th><th>HTTP</th><th>retryable</th>'
    yield "<th>means</th></tr></thead><tbody>"
    for error in catalogue.errors:
        yield f"<tr><td><code>{error.code}</code></td><td>{error.status}</td>"
        yield f"<td>{'yes' if error.retryable else 'no'}</td><td>{_prose(error.about)}</td></tr>"
    yield "</tbody></table></section>"


def _notes(kind: dict[str, Any]) -> str:
    return "<br>".join(escape(note) for note in (bounds(kind), kind.get("description", "")) if note)


def _linked(type_words: str, catalogue: Catalogue) -> str:
    """The names of types as links to them."""
    return re.sub(
        r"\b[A-Z]\w+\b",
        lambda word: _link(word[0]) if "properties" in catalogue.schemas.get(word[0], {}) else word[0],
        escape(type_words),
    )


def _link(name: str) -> str:
    return f'<a href="#type.{name}">{name}</a>'


def _prose(text: str) -> str:
    """Text for people, as docstrings have it, with its code marked."""
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
