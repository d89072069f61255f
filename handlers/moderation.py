"""The operator's say on messages before they are stored: a hook that allows, rewrites or rejects them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

import structlog
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from auth.caller import Caller
from protocol.commands import SendMessage
from protocol.errors import Forbidden, Unavailable
from protocol.resources import Message
from protocol.types import Reason, Text
from protocol.wire import Inbound

HOOK_SECONDS: Final = 1.5
"""A sender waits so long for a verdict; with the commit well below an event's deadline."""
REASON_MAX: Final = 1_000
REJECTED: Final = "this message is not allowed here"

log = structlog.get_logger()

Hook = Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes a message as JSON would carry it, and returns a verdict as JSON would."""


def _readable(reason: object) -> object:
    """A rejection counts whatever is wrong with its reason."""
    try:
        return _reason.validate_python(reason[:REASON_MAX] if isinstance(reason, str) else reason)
    except ValidationError:
        return REJECTED


_reason: TypeAdapter[str] = TypeAdapter(Reason)


class _Verdict(Inbound, extra="ignore"):
    """A hook's answer; fields beside those of its action are its own affair."""


class Allow(_Verdict):
    """The message may pass as it is."""

    action: Literal["allow"]


class Rewrite(_Verdict):
    """The message may pass with this text."""

    action: Literal["rewrite"]
    text: Text


class Reject(_Verdict):
    """The message may not pass; its sender is told why."""

    action: Literal["reject"]
    reason: Annotated[Reason, BeforeValidator(_readable)] = REJECTED


_verdict: TypeAdapter[Allow | Rewrite | Reject] = TypeAdapter(
    Annotated[Allow | Rewrite | Reject, Field(discriminator="action")]
)


class Moderation:
    """Asks the hook. `fail_open` says whether messages pass when it fails; `on_outcome` counts what came of it.

    A hook fails when it raises, takes longer than 1.5 s, or answers anything but a verdict.
    """

    def __init__(self, hook: Hook, *, fail_open: bool, on_outcome: Callable[[str], None]) -> None:
        self._hook = hook
        self._fail_open = fail_open
        self._on_outcome = on_outcome

    async def review_message(self, caller: Caller, command: SendMessage) -> str | None:
        """The text to store. Raises: Forbidden with the hook's reason; Unavailable when it fails and must not."""
        return await self._review(
            {
                "roomId": command.room_id,
                "senderId": caller.user_id,
                "seq": None,
                "text": command.text,
                "clientId": command.client_id,
                "replyTo": command.reply_to,
                "attachments": command.attachments,
                "mentions": command.mentions,
                "metadata": command.metadata,
            }
        )

    async def review_edit(self, message: Message, text: str) -> str:
        """The text to put in place of a stored message's; the hook knows an edit by its `seq`. Raises: as before."""
        reviewed = await self._review(
            {
                "roomId": message.room_id,
                "senderId": message.sender_id,
                "seq": message.seq,
                "text": text,
                "clientId": message.client_id,
                "replyTo": message.reply_to,
                "attachments": message.attachments,
                "mentions": message.mentions,
                "metadata": message.metadata,
            }
        )
        return reviewed if reviewed is not None else text

    async def _review(self, submission: dict[str, Any]) -> str | None:
        given: str | None = submission["text"]
        try:
            async with asyncio.timeout(HOOK_SECONDS):
                verdict = _verdict.validate_python(await self._hook(submission))
        except Exception as error:
            self._on_outcome("failed")
            # Its text may quote the message.
            log.warning("moderation hook failed", reason=type(error).__name__, passes=self._fail_open)
            if not self._fail_open:
                raise Unavailable("messages cannot be checked at the moment, try again") from error
            return given
        self._on_outcome(verdict.action)
        if isinstance(verdict, Reject):
            raise Forbidden(verdict.reason)
        return verdict.text if isinstance(verdict, Rewrite) else given
