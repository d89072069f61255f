"""Reads by key of whatever collections, asked for at once: one query, for the way to the store costs more than they."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from storage.batcher import Batcher
from storage.mongo import Document, Mongo, aggregate

STAGES_MAX: Final = 100
"""Pipelines in one query; MongoDB takes at most 1,000 stages."""
COLLECTIONS: Final = ("members", "notifications", "rooms")
"""Those that the first pipeline of a query is on."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Query(NamedTuple):
    """A pipeline on a collection."""

    collection: str
    pipeline: list[Document]


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[Item, Result]):
    """What there is to be asked: the queries for some items, and the items' results from the documents found."""

    plan: Callable[[list[Item]], list[Query]]
    answer: Callable[[list[Item], list[Document]], Sequence[Result]]


class Reads:
    """All that is asked for in one loop tick, and while the query before is under way, is one query.

    For what is found by an index and is soon read, as each waits for all. Each sees everything acknowledged before it.
    Raises: the driver's errors when the store is away, Unavailable when too many wait for it.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._collections = {name: mongo[name] for name in COLLECTIONS}
        self._batches: Batcher[tuple[Kind[Any, Any], Any], Any] = Batcher(self._flush)

    async def close(self) -> None:
        """Take nothing more, and finish what is under way."""
        await self._batches.close()

    async def ask(self, kind: Kind[Item, Result], item: Item) -> Result:
        """The result of one item."""
        result: Result = await self._batches.submit((kind, item))
        return result

    async def _flush(self, requests: list[tuple[Kind[Any, Any], Any]]) -> list[Any]:
        places: dict[Kind[Any, Any], list[int]] = {}
        for index, (kind, _) in enumerate(requests):
            places.setdefault(kind, []).append(index)
        items = {kind: [requests[index][1] for index in indexes] for kind, indexes in places.items()}
        numbered = dict(enumerate(items))
        found: dict[int, list[Document]] = {number: [] for number in numbered}
        for document in await self._union(
            [
                Query(query.collection, [*query.pipeline, {"$set": {"read_kind": number}}])
                for number, kind in numbered.items()
                for query in kind.plan(items[kind])
            ]
        ):
            found[document.pop("read_kind")].append(document)
        results: list[Any] = [None] * len(requests)
        for number, kind in numbered.items():
            for index, result in zip(places[kind], kind.answer(items[kind], found[number]), strict=True):
                results[index] = result
        return results

    async def _union(self, queries: list[Query]) -> list[Document]:
        documents: list[Document] = []
        for start in range(0, len(queries), STAGES_MAX):
            first, *more = queries[start : start + STAGES_MAX]
            stages = [{"$unionWith": {"coll": query.collection, "pipeline": query.pipeline}} for query in more]
            documents += await aggregate(self._collections[first.collection], [*first.pipeline, *stages])
        return documents
