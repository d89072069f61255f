"""From an event's name and arguments to its answer in JSON: look up, validate, handle, map what went wrong."""

from collections.abc import Awaitable
from typing import Any, Final

import orjson
import structlog
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from auth.caller import Caller
from handlers.messages import Answer
from handlers.routes import ROUTES
from handlers.services import Services
from protocol.errors import FieldFault, Internal, ParleyError, Unavailable, UnknownEvent, ValidationFailed
from protocol.replies import AnyReply
from protocol.types import NOT_PLAIN, PLAIN_PATTERN
from storage.mongo import is_outage

FAULTS_MAX: Final = 20
"""Field faults that one answer lists."""

log = structlog.get_logger()


async def dispatch(name: str, args: list[Any], caller: Caller, services: Services) -> AnyReply | Awaitable[AnyReply]:
    """Serve one event. Raises: ParleyError, and only that; the awaitable raises whatever a handler does."""
    try:
        route = ROUTES.get(name)
        if route is None:
            raise UnknownEvent
        command = route.command.read(_payload(args))
        return await route.handle(caller, command, services)
    except Exception as error:
        raise as_parley_error(error, name) from error


def dispatch_at_once(name: str, args: list[Any], caller: Caller, services: Services, answer: Answer) -> bool:
    """Serve one event without a wait, if it can be; False leaves it to `dispatch`. `answer` is told what came of it."""
    route = ROUTES.get(name)
    if route is None or route.at_once is None:
        return False
    try:
        return route.at_once(caller, route.command.read(_payload(args)), services, answer)
    except Exception as error:
        answer(error)
        return True


def _payload(args: list[Any]) -> Any:
    if len(args) > 1:
        raise ValidationFailed(details=[{"field": "", "message": "an event takes one payload"}])
    return args[0] if args else {}


def as_parley_error(error: Exception, event_name: str) -> ParleyError:
    """What the caller is told of a failure; the unexpected is logged with its traceback and stays inside."""
    if isinstance(error, ParleyError):
        return error
    if isinstance(error, ValidationError):
        return ValidationFailed(details=_field_faults(error))
    if is_outage(error):
        log.warning("store not reachable", event_name=event_name, reason=type(error).__name__)
        return Unavailable()
    log.error("handler failed", event_name=event_name, exc_info=error)
    return Internal()


def _field_faults(error: ValidationError) -> list[FieldFault]:
    """Each fault with the path of its field, as clients write it; never with the value that was refused."""
    return [
        {
            "field": _encodable((fault.get("ctx") or {}).get("field") or ".".join(str(part) for part in fault["loc"])),
            "message": _message(fault),
        }
        for fault in error.errors(include_url=False, include_input=False)[:FAULTS_MAX]
    ]


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "string_unicode" or (fault.get("ctx") or {}).get("pattern") == PLAIN_PATTERN:
        return NOT_PLAIN
    return fault["msg"].removeprefix("Value error, ")


def _encodable(path: str) -> str:
    return path.encode("utf-8", "replace").decode()[:200]


def success_json(reply: AnyReply) -> bytes:
    """The one argument of a successful ack."""
    fields = reply.wire_json()
    return b'{"success":true}' if fields == b"{}" else b'{"success":true,' + fields[1:]


def failure_json(error: ParleyError) -> bytes:
    """The one argument of a failed ack."""
    return orjson.dumps({"success": False, "error": error.as_wire()})
