"""The channels of one node: which it wants, what Redis has been asked for, which stand. No I/O."""

import asyncio
import contextlib
from collections.abc import Iterable


class _Wait:
    """Somebody who waits for some channels, with one event for all of them."""

    __slots__ = ("missing", "over")

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.over = asyncio.Event()

    def confirmed(self, channel: str) -> None:
        self.missing.discard(channel)
        if not self.missing:
            self.over.set()


class Subscriptions:
    """What this node listens to.

    Redis answers the commands of a connection in order, so a channel stands when the last command about it is
    answered, and that one was a subscribe: an earlier answer says nothing while an unsubscribe is on its way.
    """

    def __init__(self) -> None:
        self.wanted: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        self._unanswered: dict[str, int] = {}
        self._standing: set[str] = set()
        self._waits: dict[str, list[_Wait]] = {}
        self._late: set[str] = set()

    def want(self, channel: str) -> None:
        """Listen to a channel from now on."""
        self.wanted[channel] = None
        self._changed[channel] = None

    def drop(self, channel: str) -> None:
        """Listen to it no longer."""
        self.wanted.pop(channel, None)
        self._standing.discard(channel)
        self._late.discard(channel)
        self._changed[channel] = None

    @property
    def complete(self) -> bool:
        """Whether everything wanted stands."""
        return len(self._standing) == len(self.wanted)

    # --- a connection ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new connection, which listens to nothing yet."""
        self.end()
        self._unanswered.clear()
        self._changed = dict(self.wanted)

    def end(self) -> None:
        """The connection is lost: nothing stands, and nobody waits for what will not come."""
        self._standing.clear()
        self._late.clear()
        for waits in self._waits.values():
            for wait in waits:
                wait.over.set()
        self._waits.clear()

    def take_changes(self) -> tuple[list[str], list[str]]:
        """What to subscribe to and what to leave, to be sent now."""
        changed, self._changed = self._changed, {}
        for channel in changed:
            self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
        return [name for name in changed if name in self.wanted], [name for name in changed if name not in self.wanted]

    def expects_answer(self, channel: str) -> bool:
        """Whether a command about this channel is under way."""
        return channel in self._unanswered

    def doubt_unanswered(self) -> None:
        """Somebody may have published on channels that do not stand yet: that is told of each of them when it does."""
        self._late.update(name for name in self.wanted if name not in self._standing)

    def answered(self, channel: str, *, subscribed: bool) -> bool:
        """Redis has answered one command. Returns whether a channel stands now that somebody gave up waiting for."""
        left = self._unanswered.get(channel, 1) - 1
        if left > 0:
            self._unanswered[channel] = left
            return False
        self._unanswered.pop(channel, None)
        if not subscribed or channel not in self.wanted:
            return False
        self._standing.add(channel)
        for wait in self._waits.pop(channel, ()):
            wait.confirmed(channel)
        late = channel in self._late
        self._late.discard(channel)
        return late

    async def stand(self, channels: Iterable[str], seconds: float) -> None:
        """Returns when these channels stand, as far as they are wanted, the connection ends, or after `seconds`."""
        missing = {channel for channel in channels if channel in self.wanted and channel not in self._standing}
        if not missing:
            return
        wait = _Wait(missing)
        for channel in missing:
            self._waits.setdefault(channel, []).append(wait)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wait.over.wait()
                return
        self._late.update(channel for channel in wait.missing if channel in self.wanted)
