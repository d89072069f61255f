"""Questions to other nodes, and changes that must have taken hold there before somebody is told."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog

from realtime.envelope import ANSWER, REQUEST

ANSWER_SECONDS: Final = 1.0

log = structlog.get_logger()


class Put(Protocol):
    """Says something to those who listen to a room; `receivers` is told how many they are, -1 while Redis is away."""

    def __call__(self, room: str, kind: int, *fields: Any, receivers: asyncio.Future[int] | None = None) -> None:
        """In its turn; never waits."""


class Requests:
    """This node's, and its answers to those of others.

    `on_request(fields)` takes a change of another node; `on_question[name](fields)` answers what other nodes ask. Both
    are synchronous.
    """

    def __init__(self, node_id: str, put: Put) -> None:
        self.on_request: Callable[[list[Any]], None] = lambda fields: None
        self.on_question: dict[str, Callable[[list[Any]], Any]] = {}
        self._node_id = node_id
        self._put = put
        self._answers: dict[int, tuple[dict[tuple[str, str], Any], asyncio.Event]] = {}
        self._numbers = itertools.count(1)

    def asked(self, room: str, origin: str, fields: list[Any]) -> None:
        """A request has come: carry it out and say so. Our own shows that it has come through."""
        number, *change = fields
        if origin == self._node_id:
            self.answered(origin, [number, room])
        else:
            self._put(f"node:{origin}", ANSWER, number, room, self._apply(change))

    def _apply(self, change: list[Any]) -> Any:
        question = self.on_question.get(change[0]) if change and isinstance(change[0], str) else None
        if question is not None:
            return question(change[1:])
        self.on_request(change)
        return None

    def answered(self, origin: str, fields: list[Any]) -> None:
        """A node has answered."""
        number, room, *answer = fields
        if number in self._answers:
            answers, arrived = self._answers[number]
            answers[origin, room] = answer[0] if answer else None
            arrived.set()

    async def ask(self, rooms: list[str], fields: list[Any]) -> tuple[dict[tuple[str, str], Any], bool]:
        """Ask all who listen to these rooms, ourselves included.

        Returns their answers, by node and room, and whether they are all: False when one took longer than 1 s, and at
        once while Redis is away.
        """
        loop = asyncio.get_running_loop()
        number, arrived = next(self._numbers), asyncio.Event()
        answers: dict[tuple[str, str], Any] = {}
        self._answers[number] = (answers, arrived)
        receivers = [loop.create_future() for _ in rooms]
        try:
            for room, future in zip(rooms, receivers, strict=True):
                self._put(room, REQUEST, number, *fields, receivers=future)
            async with asyncio.timeout(ANSWER_SECONDS):
                counts = await asyncio.gather(*receivers)
                if min(counts) < 0:
                    return answers, False
                while len(answers) < sum(counts):
                    arrived.clear()
                    await arrived.wait()
            return answers, True
        except TimeoutError:
            log.warning("nodes did not confirm a change", channels=len(rooms))
            return answers, False
        finally:
            del self._answers[number]
