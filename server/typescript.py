"""The contract as TypeScript: both event maps, for the stock client's `Socket<ServerToClientEvents, …>`.

Source: https://socket.io/docs/v4/typescript/
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from server.catalogue import FAILED_ACK, SCHEMA_REF, VERSION, Catalogue
from server.notation import bounds, mapped

_HEAD: Final = f"""\
// Parley's events, protocol {VERSION}, for the stock client:
//
//   import {{ io, type Socket }} from "socket.io-client";
//   import type {{ ClientToServerEvents, ServerToClientEvents }} from "./parley";
//
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io(url, {{ auth: {{ token }} }});
//   const ack = await socket.emitWithAck("message:send", {{ roomId, text, clientId }});
//   if (ack.success) show(ack.message); else complain(ack.error);
//
// A callback may be left out on the wire, but not here: `emitWithAck` finds its type by it.
"""
_FOOT: Final = f"""\
/** What a callback is given: the fields asked for, or why there are none. */
export type Ack<Reply> = Reply | {FAILED_ACK};

type Acked<Payload, Reply> = (payload: Payload, ack: (reply: Ack<Reply>) => void) => void;
"""


def typescript_declarations(catalogue: Catalogue) -> str:
    """The text of parley.d.ts, a module without imports."""
    parts = [
        _HEAD,
        *(_declaration(name, catalogue) for name in catalogue.schemas),
        _FOOT,
        _event_map(
            "What a client sends: `socket.emit`, `socket.emitWithAck`.",
            "ClientToServerEvents",
            [(event.name, event.about, f"Acked<{event.payload}, {event.reply}>") for event in catalogue.client_events],
        ),
        _event_map(
            "What the server sends: `socket.on`.",
            "ServerToClientEvents",
            [(event.name, event.about, f"(payload: {event.payload}) => void") for event in catalogue.server_events],
        ),
    ]
    return "\n".join(parts)


def _event_map(about: str, name: str, events: list[tuple[str, str, str]]) -> str:
    lines = [f"/** {about} */", f"export interface {name} {{"]
    for event, event_about, listener in events:
        lines += [*_comment(event_about, "  "), f'  "{event}": {listener};']
    return "\n".join([*lines, "}", ""])


def _declaration(name: str, catalogue: Catalogue) -> str:
    schema = catalogue.schemas[name]
    lines = list(_comment(schema.get("description", "")))
    if "properties" not in schema:
        return "\n".join([*lines, f"export type {name} = {type_of(schema)};", ""])
    parent = catalogue.parents.get(name)
    fields = catalogue.own_fields(name)
    if not fields and not parent:
        return "\n".join([*lines, f"export type {name} = Record<string, never>;", ""])
    lines.append(f"export interface {name}{f' extends {parent}' if parent else ''} {{")
    for field, kind in fields.items():
        lines += _comment(". ".join(filter(None, (kind.get("description"), bounds(kind)))), "  ")
        lines.append(f"  {field}{'' if field in schema.get('required', ()) else '?'}: {type_of(kind)};")
    return "\n".join([*lines, "}", ""])


def type_of(schema: dict[str, Any]) -> str:
    """The type of one value. Raises KeyError for a kind of schema that no model of ours makes."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMA_REF)
        return str(name)
    if "anyOf" in schema:
        return _union(schema["anyOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema["type"] == "array":
        items = type_of(schema["items"])
        return f"({items})[]" if " | " in items else f"{items}[]"
    if schema["type"] == "object":
        values = mapped(schema)
        return f"Record<string, {'unknown' if values is None else type_of(values)}>"
    return {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}[
        schema["type"]
    ]


def _union(choices: list[dict[str, Any]]) -> str:
    """With known values beside any string, editors offer the known ones only in this spelling."""
    kinds = [type_of(choice) for choice in choices]
    known = any("enum" in choice for choice in choices)
    return " | ".join("(string & {})" if known and kind == "string" else kind for kind in kinds)


def _comment(text: str, indent: str = "") -> Iterator[str]:
    if text:
        yield f"{indent}/** {text.replace('*/', '* /')} */"
