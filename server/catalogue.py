"""The wire contract as data: every event with the schema of what it carries, read from the table and the models."""

import inspect
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from handlers.routes import ROUTES, Handler
from protocol.errors import ParleyError
from protocol.events import ServerEvent, SessionReady
from protocol.replies import EncodedReply, Reply
from protocol.resources import Failure
from protocol.wire import Outbound

VERSION: Final = str(SessionReady.model_fields["protocol"].default)
SCHEMA_REF: Final = "#/components/schemas/"
"""Where documents keep the schemas that they refer to."""
FAILED_ACK: Final = "FailedAck"
ERROR_CODE: Final = "ErrorCode"


class ClientEvent(NamedTuple):
    """What a client may send, and the names of the schemas of its payload and of its successful ack."""

    name: str
    about: str
    payload: str
    reply: str


class SentEvent(NamedTuple):
    """What the server sends, and the name of its payload's schema."""

    name: str
    about: str
    payload: str


class ErrorCode(NamedTuple):
    """One way to fail, and the HTTP status that stands for it."""

    code: str
    status: int
    retryable: bool
    about: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All events in the order of the sources, and their schemas by name (JSON Schema, references to SCHEMA_REF).

    `parents` names, of what the server sends, the schema that a schema has all fields of.
    """

    client_events: list[ClientEvent]
    server_events: list[SentEvent]
    errors: list[ErrorCode]
    schemas: dict[str, JsonSchemaValue]
    parents: dict[str, str]

    def own_fields(self, name: str) -> dict[str, JsonSchemaValue]:
        """A schema's fields, without those of its parent."""
        inherited = self.schemas[self.parents[name]]["properties"] if name in self.parents else {}
        fields = self.schemas[name]["properties"]
        return {field: kind for field, kind in fields.items() if inherited.get(field) != kind}

    def things(self) -> list[str]:
        """The names that are spoken of elsewhere: what schemas refer to or build upon, in alphabetical order."""
        text = repr(self.schemas)
        named = {name for name in self.schemas if f"'{SCHEMA_REF}{name}'" in text} | set(self.parents.values())
        return sorted(name for name in named if "properties" in self.schemas[name])


class _WireSchema(GenerateJsonSchema):
    """JSON Schema of what is on the wire: a field whose default is None is left out, and never null there."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", self) is not None:
            described = super().default_schema(schema)
            if self.mode == "serialization":
                described.pop("default", None)
            return described
        inner: Any = schema["schema"]
        while inner["type"] in ("function-before", "nullable"):
            inner = inner["schema"]
        return self.generate_inner(inner)

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization":
            return bool(field["schema"].get("default", self) is not None)
        return super().field_is_required(field, total)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def event_names() -> set[str]:
    """The names of all events, whoever sends them."""
    return ROUTES.keys() | {event.wire_name for event in _subclasses(ServerEvent)}


def read_catalogue() -> Catalogue:
    """The contract as this server keeps it."""
    sent = list(_subclasses(ServerEvent))
    routes = [(name, route.command, reply_model(route.handle), route.handle) for name, route in ROUTES.items()]
    inbound = _schemas((command for _, command, _, _ in routes), "validation")
    outbound = _schemas([*(reply for _, _, reply, _ in routes), *map(_carried, sent), Failure], "serialization")
    for reply in {reply.__name__ for _, _, reply, _ in routes}:
        outbound[reply] = _ack(outbound[reply])
    errors = [ErrorCode(kind.code, kind.status, kind.retryable, _about(kind)) for kind in _subclasses(ParleyError)]
    outbound[ERROR_CODE] = {
        "description": "Why something failed; a newer server may know further codes.",
        "anyOf": [{"type": "string", "enum": [error.code for error in errors]}, {"type": "string"}],
    }
    outbound[Failure.__name__]["properties"]["code"] = {"$ref": SCHEMA_REF + ERROR_CODE}
    failed = {"error": {"$ref": SCHEMA_REF + Failure.__name__}}
    outbound[FAILED_ACK] = {"description": "The ack of an event that failed.", "type": "object"} | _with_success(
        False, failed, ["error"]
    )
    if foreign := [name for name in inbound.keys() & outbound.keys() if inbound[name] != outbound[name]]:
        raise ValueError(f"two models of one name: {', '.join(foreign)}")
    return Catalogue(
        [
            ClientEvent(name, _about(handle), command.__name__, reply.__name__)
            for name, command, reply, handle in routes
        ],
        [SentEvent(event.wire_name, _about(event), _carried(event).__name__) for event in sent],
        errors,
        inbound | outbound,
        {model.__name__: parent for model in _subclasses(Outbound) if (parent := _parent(model)) in outbound},
    )


def reply_model(handle: Handler) -> type[Reply]:
    """What a handler answers, by its annotation; JSON made by hand stands for the model beside it."""
    answer = get_type_hints(handle)["return"]
    if get_origin(answer) is Awaitable:
        (answer,) = get_args(answer)
    kinds = get_args(answer) if get_origin(answer) is UnionType else (answer,)
    model: type[Reply]
    (model,) = (kind for kind in kinds if kind is not EncodedReply)
    return model


def _schemas(models: Iterable[type[BaseModel]], mode: Any) -> dict[str, JsonSchemaValue]:
    inputs = [(model, mode) for model in dict.fromkeys(models)]
    _, described = models_json_schema(inputs, ref_template=SCHEMA_REF + "{model}", schema_generator=_WireSchema)
    definitions: dict[str, JsonSchemaValue] = described["$defs"]
    return definitions


def _ack(reply: JsonSchemaValue) -> JsonSchemaValue:
    return reply | _with_success(True, reply.get("properties", {}), reply.get("required", []))


def _with_success(success: bool, properties: dict[str, Any], required: list[str]) -> JsonSchemaValue:
    stated = {"success": {"const": success, "type": "boolean"}}
    return {"properties": stated | properties, "required": ["success", *required]}


def _carried(event: type[ServerEvent]) -> type[Outbound]:
    """The thing that an event consists of, if it is nothing else, or the event itself."""
    for base in event.__bases__:
        if issubclass(base, Outbound) and base.model_fields.keys() == event.model_fields.keys():
            return base
    return event


def _parent(model: type[Outbound]) -> str:
    return model.__bases__[0].__name__ if not issubclass(model, Reply) else ""


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """All that are written down in the project, in the order of the sources."""
    for kind in base.__subclasses__():
        if kind.__module__.startswith("protocol."):
            yield kind
        yield from _subclasses(kind)


def _about(documented: Any) -> str:
    """The first paragraph of a docstring, for readers of the contract: without what is raised."""
    paragraph = (inspect.getdoc(documented) or "").partition("\n\n")[0]
    return " ".join(paragraph.partition("Raises:")[0].split())
