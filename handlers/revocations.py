"""Revocations as this node knows them: read from MongoDB every second, so that Redis may be away.

A handshake asks the memory, not the store. While the store is away a node goes on with what it knows.
"""

import asyncio
from typing import Final

import structlog

from auth.caller import Caller
from auth.revocation import Revocations
from handlers.connections import Connections
from protocol.errors import ParleyError
from storage.mongo import is_outage
from storage.revocations import Revocation, RevocationKind, RevocationStore

LOOK_SECONDS: Final = 1.0
"""With the read itself well below the 5 s within which a revocation is in force; one look is one step in an index."""
PAGE: Final = 1_000
REMEMBERED_MAX: Final = 50_000
"""Revocations kept in memory, about 10 MB; with more of them each handshake asks the store."""

log = structlog.get_logger()


class RevocationWatch:
    """One task that reads what was withdrawn since the last look, and ends the sessions concerned."""

    def __init__(self, store: RevocationStore, connections: Connections, remembered_max: int = REMEMBERED_MAX) -> None:
        self._store = store
        self._connections = connections
        self._remembered_max = remembered_max
        self._known = Revocations()
        self._is_complete = True
        self._last = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read all there is, then begin to look. Raises: the driver's errors when the store is away."""
        while await self._look_at_page() and self._is_complete:
            pass
        if not self._is_complete:
            self._last = await self._store.newest()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def check(self, caller: Caller) -> None:
        """Raises: UserBlocked; TokenRevoked; the driver's errors when the memory is not enough and the store away.

        What is found out later is enforced on sessions that are open in the loop tick in which this returns.
        """
        if self._is_complete:
            self._known.check(caller)
            return
        while True:
            last = self._last
            concerning = await self._store.concerning(caller.user_id, caller.token_id)
            # Otherwise something may have been enforced before this session was open, and after the store was asked.
            if last == self._last:
                break
        _collect(concerning).check(caller)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                while await self._look_at_page():
                    pass
            except Exception as error:
                if not is_outage(error):
                    log.exception("revocations not read")

    async def _look_at_page(self) -> bool:
        """Take in what is new; returns whether there may be more."""
        page = await self._store.changes(self._last, PAGE)
        if page:
            self._last = page[-1].number
            self._remember(page)
            self._enforce(page)
        return len(page) == PAGE

    def _remember(self, page: list[Revocation]) -> None:
        if not self._is_complete:
            return
        _collect(page, self._known)
        if len(self._known) > self._remembered_max:
            self._known, self._is_complete = Revocations(), False
            log.warning("handshakes ask the store for revocations", remembered_max=self._remembered_max)

    def _enforce(self, page: list[Revocation]) -> None:
        news = _collect(page)
        for caller in self._connections.callers(news.blocked | news.issued_before.keys(), news.tokens):
            try:
                news.check(caller)
            except ParleyError as error:
                self._connections.end(caller.session_id or "", error.code)


def _collect(page: list[Revocation], into: Revocations | None = None) -> Revocations:
    revocations = Revocations() if into is None else into
    for revocation in page:
        if revocation.kind is RevocationKind.TOKEN:
            revocations.revoke_token(revocation.subject)
        elif revocation.kind is RevocationKind.USER and revocation.issued_before is not None:
            revocations.revoke_issued_before(revocation.subject, revocation.issued_before)
        elif revocation.lifted:
            revocations.lift_block(revocation.subject)
        else:
            revocations.block(revocation.subject)
    return revocations
