"""The tables of docs/protocol.md, and `python -m server.reference`, which writes what is generated below docs/.

People write the prose of docs/protocol.md, this writes what stands between a line `<!-- generated: KIND NAME... -->`
and the next `<!-- end -->`. KIND is `client` or `server` (events by name, or all that begin with `NAME:`), `types` (by
name) or `errors` (all).
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from server.catalogue import Catalogue, ClientEvent, SentEvent, read_catalogue
from server.notation import fields_of
from server.typescript import typescript_declarations

_Event = TypeVar("_Event", ClientEvent, SentEvent)

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
_REGION: Final = re.compile(
    r"^<!-- generated: (?P<kind>\w+)(?P<names>[^\n]*?) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)


def generated_files(catalogue: Catalogue, docs: Path = DOCS) -> dict[Path, str]:
    """What each file that is generated, or generated in part, has to contain."""
    protocol = docs / "protocol.md"
    return {
        protocol: fill_regions(protocol.read_text(), catalogue),
        docs / "parley.d.ts": typescript_declarations(catalogue),
    }


def fill_regions(text: str, catalogue: Catalogue) -> str:
    """The text with its generated regions made anew. Raises LookupError for a kind or a name that there is not."""

    def fill(region: re.Match[str]) -> str:
        first_line = region[0].partition("\n")[0]
        return "\n".join([first_line, *_table(region["kind"], region["names"].split(), catalogue), "<!-- end -->"])

    return _REGION.sub(fill, text)


def documented(text: str) -> dict[str, set[str]]:
    """The names that each kind of region asks for."""
    names: dict[str, set[str]] = {}
    for region in _REGION.finditer(text):
        names.setdefault(region["kind"], set()).update(region["names"].split())
    return names


def _table(kind: str, names: Sequence[str], catalogue: Catalogue) -> list[str]:
    if kind == "client":
        return _client_table(_selected(catalogue.client_events, names), catalogue)
    if kind == "server":
        return _server_table(_selected(catalogue.server_events, names), catalogue)
    if kind == "types":
        return [_type_line(name, catalogue) for name in names]
    if kind == "errors":
        return _error_table(catalogue)
    raise LookupError(f"there is no kind {kind} of generated region")


def selects(name: str, event_name: str) -> bool:
    """Whether a region's name stands for this event."""
    return event_name == name or event_name.startswith(f"{name}:")


def _selected(events: Sequence[_Event], names: Sequence[str]) -> list[_Event]:
    found = [event for name in names for event in events if selects(name, event.name)]
    if missing := [name for name in names if not any(selects(name, event.name) for event in found)]:
        raise LookupError(f"there are no events {', '.join(missing)}")
    return list(dict.fromkeys(found))


def _client_table(events: Iterable[ClientEvent], catalogue: Catalogue) -> list[str]:
    return ["| client event | payload | ack fields | |", "| --- | --- | --- | --- |"] + [
        f"| `{event.name}` | {_fields(event.payload, catalogue)} | {_fields(event.reply, catalogue)} | {event.about} |"
        for event in events
    ]


def _server_table(events: Iterable[SentEvent], catalogue: Catalogue) -> list[str]:
    return ["| server event | payload | |", "| --- | --- | --- |"] + [
        f"| `{event.name}` | {_payload(event.payload, catalogue)} | {event.about} |" for event in events
    ]


def _error_table(catalogue: Catalogue) -> list[str]:
    return ["| code | HTTP | retryable | means |", "| --- | --- | --- | --- |"] + [
        f"| `{error.code}` | {error.status} | {'yes' if error.retryable else 'no'} | {error.about} |"
        for error in catalogue.errors
    ]


def _type_line(name: str, catalogue: Catalogue) -> str:
    schema = catalogue.schemas[name]
    parent = catalogue.parents.get(name)
    fields = fields_of(schema | {"properties": catalogue.own_fields(name)}, catalogue)
    return f"- `{name} = {f'{parent} + ' if parent else ''}{{ {fields} }}`: {schema['description']}"


def _payload(name: str, catalogue: Catalogue) -> str:
    """A thing that has a name of its own by that, everything else by its fields."""
    is_a_thing = name in catalogue.parents.values()
    return f"a `{name}`" if is_a_thing else _fields(name, catalogue)


def _fields(name: str, catalogue: Catalogue) -> str:
    fields = fields_of(catalogue.schemas[name], catalogue)
    return f"`{fields}`" if fields else "—"


def main() -> None:
    """Write the files."""
    for path, text in generated_files(read_catalogue()).items():
        path.write_text(text)


if __name__ == "__main__":
    main()
