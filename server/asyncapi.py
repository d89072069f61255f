"""The contract as an AsyncAPI 3 document, seen from the server: it receives commands, replies to them, sends events.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any, Final

from server.catalogue import FAILED_ACK, SCHEMA_REF, VERSION, Catalogue, ClientEvent, SentEvent

_CHANNEL: Final = {"$ref": "#/channels/socket"}
_DESCRIPTION: Final = (
    "Socket.IO protocol 5 over Engine.IO 4, path `/socket.io/`, namespace `/`, by websocket or long-polling. An "
    "event has one argument, its payload. Each client event may carry a callback, which is called once, with the "
    "successful ack or the failed one."
)
_CREDENTIALS: Final = "A JWT in the payload of CONNECT: `io(url, { auth: { token } })`."
_CONTENT_TYPE: Final = "application/json"


def asyncapi_document(catalogue: Catalogue) -> dict[str, Any]:
    """The whole document, free of any host."""
    messages: dict[str, Any] = {"failed": _message("failed", "The ack of an event that failed.", FAILED_ACK)}
    operations: dict[str, Any] = {}
    for command in catalogue.client_events:
        messages[f"client.{_key(command.name)}"] = _message(command.name, command.about, command.payload)
        messages[f"ack.{_key(command.name)}"] = _message(command.name, f"The ack of {command.name}.", command.reply)
        operations[f"receive.{_key(command.name)}"] = _receive(command)
    for event in catalogue.server_events:
        messages[f"server.{_key(event.name)}"] = _message(event.name, event.about, event.payload)
        operations[f"send.{_key(event.name)}"] = _send(event)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Parley", "version": VERSION, "description": _DESCRIPTION},
        "defaultContentType": _CONTENT_TYPE,
        "channels": {
            "socket": {"address": "/", "description": "One connection of one user's device.", "messages": messages}
        },
        "operations": operations,
        "components": {
            "schemas": catalogue.schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _CREDENTIALS}
            },
        },
    }


def _receive(command: ClientEvent) -> dict[str, Any]:
    key = _key(command.name)
    return {
        "action": "receive",
        "channel": _CHANNEL,
        "summary": command.about,
        "security": [{"$ref": "#/components/securitySchemes/token"}],
        "messages": [_reference(f"client.{key}")],
        "reply": {"channel": _CHANNEL, "messages": [_reference(f"ack.{key}"), _reference("failed")]},
    }


def _send(event: SentEvent) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": _CHANNEL,
        "summary": event.about,
        "messages": [_reference(f"server.{_key(event.name)}")],
    }


def _message(name: str, about: str, schema: str) -> dict[str, Any]:
    return {"name": name, "summary": about, "payload": {"$ref": SCHEMA_REF + schema}}


def _reference(message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/socket/messages/{message}"}


def _key(event_name: str) -> str:
    """An event's name as a key: the specification allows no colon there."""
    return event_name.replace(":", ".")
