"""The MongoDB client: the only import of the driver, its faults, and the write concern every promise rests on.

The same code runs on Motor (the default) and on PyMongo's own async client, Motor's successor; what differs between
the two is hidden here.
"""

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, UpdateOne, timeout
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

__all__ = [
    "BulkWriteError",
    "DuplicateKeyError",
    "Mongo",
    "PyMongoError",
    "Session",
    "UpdateOne",
    "is_outage",
    "timeout",
]

Document = dict[str, Any]
T = TypeVar("T")
Collection = AsyncCollection[Document]
Session = AsyncClientSession

OPERATION_TIMEOUT_MS = 4_000
"""Longest wait for one operation; below the 5 s deadline of an event, so that an absent store answers UNAVAILABLE."""
SERVER_SELECTION_TIMEOUT_MS = 3_000
CONFLICT_BACKOFF_SECONDS = 0.01
"""A transaction that lost to another one comes back within this time, each at another moment."""
MINIMUM_VERSION = (6, 0)
DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48

_OUTAGE_CODES = frozenset({6, 7, 50, 64, 89, 91, 100, 112, 189, 202, 251, 262, 9001, 10107, 11600, 11602, 13435, 13436})
"""Host unreachable, timeouts, shutdown, step-down, write concern not met, transactions lost to either of them."""


class UnsuitableStore(Exception):
    """The MongoDB at this address cannot keep Parley's promises; the message says why, in one sentence."""


class Mongo:
    """One client and its database: writes wait for the journal of a majority, reads see only such writes."""

    def __init__(self, url: str, database: str, *, client_class: Any = AsyncIOMotorClient) -> None:
        self._client = client_class(
            url,
            w="majority",
            journal=True,
            readConcernLevel="majority",
            timeoutMS=OPERATION_TIMEOUT_MS,
            serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
            connectTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
            tz_aware=True,
            appname="parley",
        )
        self.database: AsyncDatabase[Document] = self._client[database]
        self.transactions: set[asyncio.Task[Any]] = set()

    def __getitem__(self, collection: str) -> Collection:
        return self.database[collection]

    async def check(self) -> None:
        """Refuse a server that cannot journal on a majority.

        Raises: UnsuitableStore when none answers, for a standalone, and for a version below 6.0.
        """
        try:
            hello = await self._client.admin.command("hello")
        except ConnectionFailure as error:
            raise UnsuitableStore("no MongoDB answers at MONGODB_URL") from error
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise UnsuitableStore(
                "MONGODB_URL names a standalone MongoDB; Parley needs a replica set (one member will do)"
            )
        version = (await self._client.admin.command("buildInfo"))["versionArray"]
        if tuple(version[:2]) < MINIMUM_VERSION:
            raise UnsuitableStore(f"MongoDB {version[0]}.{version[1]} is too old; Parley needs 6.0 or newer")

    async def ping(self) -> None:
        """One round trip to the primary. Raises: the driver's error when it does not answer."""
        await self._client.admin.command("ping")

    async def now(self) -> datetime:
        """The time by the clock of the primary, or of the router before it: what `$$NOW` is in an update sent now."""
        hello = await self.database.command("hello", codec_options=self.database.codec_options)
        now: datetime = hello["localTime"]
        return now

    async def start_session(self) -> Session:
        """A causally consistent session: its majority reads see the outcome of its own earlier writes.

        For one task at a time.
        """
        started = self._client.start_session(causal_consistency=True)
        session: Session = await started if inspect.isawaitable(started) else started
        return session

    async def close(self) -> None:
        """Wait for transactions under way, then close all connections; other operations under way fail."""
        await asyncio.gather(*self.transactions, return_exceptions=True)
        closing = self._client.close()
        if inspect.isawaitable(closing):
            await closing


async def aggregate(
    collection: Collection, pipeline: Sequence[Mapping[str, Any]], session: Session | None = None
) -> list[Document]:
    """All results of a pipeline."""
    cursor: Any = collection.aggregate(pipeline, session=session)
    if inspect.isawaitable(cursor):
        cursor = await cursor
    documents: list[Document] = await cursor.to_list(None)
    return documents


async def create_collection(mongo: Mongo, name: str, **options: Any) -> None:
    """Create a collection unless there is one of this name."""
    try:
        await mongo.database.create_collection(name, check_exists=False, **options)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise


async def transaction(mongo: Mongo, callback: Callable[[Session], Awaitable[T]]) -> T:
    """Run `callback` in a transaction and return its result once that is committed.

    `callback` runs again from the start when another transaction touched the same documents, all within
    `OPERATION_TIMEOUT_MS`; what it raises rolls everything back. Cancelling the caller ends its wait, not the
    transaction: one cut off half-way would hold its documents until the server gives it up. Raises: the driver's error
    when the store is away, and then the outcome is unknown.
    """

    def finished(task: asyncio.Task[T]) -> None:
        mongo.transactions.discard(task)
        # Whoever waited may be gone; then there is nobody to tell.
        if not task.cancelled():
            task.exception()

    task = asyncio.create_task(_attempts(mongo, callback))
    mongo.transactions.add(task)
    task.add_done_callback(finished)
    return await asyncio.shield(task)


async def _attempts(mongo: Mongo, callback: Callable[[Session], Awaitable[T]]) -> T:
    session = await mongo.start_session()
    deadline = time.monotonic() + OPERATION_TIMEOUT_MS / 1000
    try:
        with timeout(OPERATION_TIMEOUT_MS / 1000):
            while True:
                try:
                    return await _attempt(session, callback)
                except PyMongoError as error:
                    # A store that is away carries this label too, so that the driver alone would never give up.
                    if not error.has_error_label("TransientTransactionError") or time.monotonic() >= deadline:
                        raise
                await asyncio.sleep(random.uniform(0, CONFLICT_BACKOFF_SECONDS))  # noqa: S311 - no secret
    finally:
        await session.end_session()


async def _attempt(session: Session, callback: Callable[[Session], Awaitable[T]]) -> T:
    starting: Any = session.start_transaction()
    if inspect.isawaitable(starting):
        await starting
    try:
        result = await callback(session)
        await session.commit_transaction()
    except BaseException:
        if session.in_transaction:
            await session.abort_transaction()
        raise
    return result


def is_outage(error: BaseException) -> bool:
    """Whether the store was away or out of time, so that the outcome is unknown and trying again makes sense."""
    if isinstance(error, BulkWriteError):
        return any(fault.get("code") != DUPLICATE_KEY for fault in error.details["writeErrors"]) or bool(
            error.details["writeConcernErrors"]
        )
    if isinstance(error, OperationFailure):
        return error.code in _OUTAGE_CODES or error.timeout
    return isinstance(error, ConnectionFailure) or (isinstance(error, PyMongoError) and error.timeout)


PyMongoClient = AsyncMongoClient
"""The other driver: `Mongo(url, name, client_class=PyMongoClient)`."""
