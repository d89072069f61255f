"""The MongoDB client: the only import of the driver, its faults, and the write concern every promise rests on.

The same code runs on Motor (the default) and on PyMongo's own async client, Motor's successor; what differs between
the two is hidden here.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, DeleteMany, DeleteOne, InsertOne, UpdateMany, UpdateOne, timeout
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, ConnectionFailure, DuplicateKeyError, OperationFailure, PyMongoError

__all__ = ["BulkWriteError", "DeleteMany", "DeleteOne", "DuplicateKeyError", "InsertOne", "Mongo", "OperationFailure"]
__all__ += ["PyMongoError", "Session", "UpdateMany", "UpdateOne", "is_outage", "timeout"]

Document = dict[str, Any]
Collection = AsyncCollection[Document]
Session = AsyncClientSession

OPERATION_TIMEOUT_MS = 4_000
"""Longest wait for one operation; below the 5 s deadline of an event, so that an absent store answers UNAVAILABLE."""
SERVER_SELECTION_TIMEOUT_MS = 3_000
MINIMUM_VERSION = (6, 0)
DUPLICATE_KEY = 11000

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

    def __getitem__(self, collection: str) -> Collection:
        return self.database[collection]

    async def check(self) -> None:
        """Refuse a server that cannot journal on a majority.

        Raises: UnsuitableStore for a standalone or a version below 6.0; the driver's own error when none answers.
        """
        hello = await self._client.admin.command("hello")
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

    async def start_session(self) -> Session:
        """A causally consistent session: its majority reads see the outcome of its own earlier writes.

        For one task at a time.
        """
        started = self._client.start_session(causal_consistency=True)
        session: Session = await started if inspect.isawaitable(started) else started
        return session

    async def close(self) -> None:
        """Close all connections; operations under way fail."""
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
