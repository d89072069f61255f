"""Puts batches of what a node has to say through the script that publishes and logs, at every Redis server."""

import hashlib
from asyncio import Future
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import structlog
from redis.exceptions import RedisError, ResponseError

from realtime.links import Command, Links, is_missing_script
from realtime.recovery_log import LOG_ENTRIES, LOG_SECONDS, RENEW_SECONDS, Renewals
from realtime.redis_clock import RedisClock
from realtime.shards import Shards, shard_of

PUBLISH: Final = 1
LOG: Final = 2
_RENEW: Final = 4
WHOLE: Final = 8
"""What publish.lua does with an entry: these, added up."""
_WRONG_SERVER: Final = frozenset({"READONLY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING"})

log = structlog.get_logger()

Entry = tuple[str, bytes, int, Future[int] | None]
"""Room, body, what publish.lua does with it, and who is told how many nodes got it, -1 while Redis is away."""


class Publisher:
    """`head` is put before a frame's fields to make an envelope of it.

    `published` counts entries that Redis took, `unlogged` those among them that it could not log.
    """

    def __init__(self, shards: Shards, clock: RedisClock, *, head: bytes, sharded: bool) -> None:
        self.published = 0
        self.unlogged = 0
        self._name = shards.name
        self._clock = clock
        self._sharded = sharded
        publish = "SPUBLISH" if sharded else "PUBLISH"
        self._settings = (publish, head, LOG_ENTRIES, int((LOG_SECONDS + RENEW_SECONDS) * 1000))
        self._renewals = Renewals()
        self.links: Links | None = None
        self._script = Path(__file__).with_name("publish.lua").read_bytes()
        self._digest = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()
        self._refusal = ""

    async def use(self, links: Links) -> None:
        """Publish by these connections from now on, to a Redis that may have lost what it knew.

        Raises: RedisError, OSError.
        """
        for reply in await links.everywhere(("SCRIPT", "LOAD", self._script)):
            if isinstance(reply, Exception):
                raise reply
        self._renewals.forget()
        self.links = links

    async def send(self, batch: list[Entry]) -> bool:
        """Returns whether all of it was published."""
        links = self.links
        if links is None or links.lost.done():
            return False
        parts = self._parts(batch)
        asked = self._clock.monotonic()
        commands = [(shard, self._command(part, asked)) for shard, part in parts.items()]
        try:
            answers = await links.call(commands)
            if any(map(is_missing_script, answers)):
                await links.everywhere(("SCRIPT", "LOAD", self._script))
                answers = [
                    (await links.call([command]))[0] if is_missing_script(answer) else answer
                    for command, answer in zip(commands, answers, strict=True)
                ]
        except (RedisError, OSError):
            return False
        except Exception:
            log.exception("publishing failed")
            return False
        taken = [
            self._answered(links, part, answer, asked) for part, answer in zip(parts.values(), answers, strict=True)
        ]
        return all(taken)

    def _parts(self, batch: list[Entry]) -> dict[int, list[Entry]]:
        """What one command can name, by its shard; the order within a room is kept."""
        if not self._sharded:
            return {0: batch}
        parts: dict[int, list[Entry]] = defaultdict(list)
        for entry in batch:
            parts[shard_of(entry[0])].append(entry)
        return parts

    def _command(self, part: list[Entry], now: float) -> Command:
        names: list[str] = []
        modes = bytearray()
        for room, _, mode, _ in part:
            names.append(self._name(room))
            modes.append(48 + mode + (_RENEW if mode & LOG and self._renewals.due(room, now) else 0))
        bodies = [body for _, body, _, _ in part]
        return ("EVALSHA", self._digest, len(part), *names, *self._settings, bytes(modes), *bodies)

    def _answered(self, links: Links, part: list[Entry], answer: Any, asked: float) -> bool:
        if isinstance(answer, ResponseError):
            code = str(answer).partition(" ")[0]
            if code != self._refusal:
                self._refusal = code
                log.warning("Redis did not publish", reason=code)
            if code in _WRONG_SERVER:
                links.fail("no master any more")
            return False
        self._refusal = ""
        seconds, micros, unlogged, *counts = answer
        self._clock.sample(asked, int(seconds) * 1000 + int(micros) / 1000)
        self.published += len(part)
        self.unlogged += unlogged
        waiting = [receivers for _, _, mode, receivers in part if mode == WHOLE]
        for receivers, count in zip(waiting, counts, strict=True):
            if receivers is not None and not receivers.done():
                receivers.set_result(count)
        return True
