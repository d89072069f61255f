"""The contract's documents say what the server does: none is stale, none is invalid, and what is sent fits them."""

import asyncio
import copy
import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest

from handlers.routes import ROUTES
from protocol.errors import NotFound
from server.asyncapi import asyncapi_document
from server.catalogue import Catalogue, read_catalogue, reply_model
from server.notation import phrase
from server.reference import DOCS, documented, fill_regions, generated_files, selects
from server.reference_page import reference_page
from tests.clients.user import Client, ok
from tests.nodes import ROOT, Node

TOOL_SECONDS = 60.0
PATHS = ("/asyncapi.json", "/parley.d.ts", "/docs/events")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The contract as the sources have it."""
    return read_catalogue()


async def run(*command: str, stdin: str = "") -> tuple[int, str]:
    """Run a tool of package.json; returns its exit status and what it printed. Skips where Node.js is missing."""
    if shutil.which("node") is None or not (ROOT / "node_modules" / "typescript").exists():
        pytest.skip("Node.js or the tools of package.json are missing")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(TOOL_SECONDS):
        output, _ = await process.communicate(stdin.encode())
    return process.returncode or 0, output.decode()


async def faults_of(document: dict[str, Any], samples: list[dict[str, Any]]) -> list[str]:
    """What is wrong with an AsyncAPI document, and with values by the names of its schemas."""
    status, output = await run(
        "node", "tests/asyncapi.mjs", stdin=json.dumps({"document": document, "samples": samples})
    )
    assert status == 0, output
    faults: list[str] = json.loads(output)
    return faults


def test_what_is_generated_is_fresh(catalogue: Catalogue) -> None:
    """The generated parts of docs/ are what the sources make of them."""
    stale = [path.name for path, text in generated_files(catalogue).items() if path.read_text() != text]
    assert not stale, f"{', '.join(stale)}: no longer what the sources say, run make docs"


def test_every_event_and_type_has_its_place(catalogue: Catalogue) -> None:
    """docs/protocol.md has each event in one table, and each type that the tables speak of."""
    names = documented((DOCS / "protocol.md").read_text())
    for kind, events in (("client", catalogue.client_events), ("server", catalogue.server_events)):
        for event in events:
            places = [name for name in names[kind] if selects(name, event.name)]
            assert len(places) == 1, f"docs/protocol.md needs {event.name} in one table of {kind} events: {places}"
    assert not set(catalogue.things()) - names["types"], "docs/protocol.md does not say what these types are"
    with pytest.raises(LookupError, match="no:such"):
        fill_regions("<!-- generated: client no:such -->\n<!-- end -->", catalogue)


def test_replies_are_known_from_the_handlers(catalogue: Catalogue) -> None:
    """Each row's reply is its handler's annotation, also of the one that answers with JSON made by hand."""
    replies = {event.name: event.reply for event in catalogue.client_events}
    assert replies.keys() == ROUTES.keys()
    assert (replies["message:send"], replies["room:leave"]) == ("SendReply", "Reply")
    assert all(reply_model(route.handle).__name__ == replies[name] for name, route in ROUTES.items())


def test_fields_are_described_as_they_are_on_the_wire(catalogue: Catalogue) -> None:
    """What may be left out is optional and never null, what may be null is always there, times are times."""
    update, room = catalogue.schemas["UpdateRoom"], catalogue.schemas["Room"]
    assert update["required"] == ["roomId"]
    assert phrase(update["properties"]["slowModeSeconds"], catalogue) == "integer 0–86,400"
    assert room["required"] == list(room["properties"])
    assert phrase(room["properties"]["mutedUntil"], catalogue) == "time or null"
    assert catalogue.schemas["NotificationsRead"]["required"] == ["unreadNotifications"]
    limit = catalogue.schemas["ReadHistory"]["properties"]["limit"]
    assert phrase(limit, catalogue) == "integer 1–100, default 50"
    assert NotFound.code in catalogue.schemas["ErrorCode"]["anyOf"][0]["enum"]


async def test_the_asyncapi_document_is_valid(catalogue: Catalogue) -> None:
    """It keeps the specification's own schema, and each of its references leads somewhere."""
    document = asyncapi_document(catalogue)
    assert await faults_of(document, []) == []

    def check(node: Any) -> None:
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            check(value)
        if isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
            target: Any = document
            for key in reference.removeprefix("#/").split("/"):
                target = target[key]

    check(document)
    assert len(document["operations"]) == len(catalogue.client_events) + len(catalogue.server_events)


async def test_faults_of_a_document_are_found(catalogue: Catalogue) -> None:
    """The checks of this file do find a document that is none, and values that have too few fields or too many."""
    document = _closed(asyncapi_document(catalogue))
    document["operations"]["send.notification"]["action"] = "shout"
    values: list[dict[str, Any]] = [{}, {"success": True, "text": "x"}]
    faults = await faults_of(document, [{"name": "ack", "schema": "Reply", "value": value} for value in values])
    assert any(fault.startswith("the document at /operations/send.notification") for fault in faults)
    assert sum(fault.startswith("ack") for fault in faults) == len(values)


async def test_types_fit_the_stock_typescript_client() -> None:
    """tsc takes a front-end's program, and refuses each mistake in it."""
    status, output = await run("node", "node_modules/typescript/bin/tsc", "-p", "tests/typescript")
    assert status == 0, output


async def test_what_is_sent_fits_the_document(
    server: Node, connect: Callable[..., Any], user_id: Callable[[str], str], catalogue: Catalogue
) -> None:
    """Payloads, acks and events of a conversation have the fields that the document says, and no others."""
    alice, bob = await connect(server, user_id("alice")), await connect(server, user_id("bob"))
    events = {event.name: event for event in catalogue.client_events}
    samples: list[dict[str, Any]] = []
    for name, payload, ack in await conversation(alice, bob):
        if ack["success"]:
            samples.append({"name": name, "schema": events[name].payload, "value": payload})
        schema = events[name].reply if ack["success"] else "FailedAck"
        samples.append({"name": f"ack of {name}", "schema": schema, "value": ack})
    payloads = {event.name: event.payload for event in catalogue.server_events}
    received = [*alice.received.all, *bob.received.all]
    samples += [{"name": name, "schema": payloads[name], "value": value} for name, value in received]
    assert {"session:ready", "message:reaction", "message:deleted", "notification"} <= {name for name, _ in received}
    assert await faults_of(_closed(asyncapi_document(catalogue)), samples) == []


async def conversation(alice: Client, bob: Client) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """A room's life, from its making to its end; returns the events that the two sent, their payloads and acks."""
    said: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    async def call(client: Client, event: str, **payload: Any) -> dict[str, Any]:
        said.append((event, payload, await ok(client, event, payload)))
        return said[-1][2]

    made = await call(alice, "room:create", kind="group", title="t", memberIds=[bob.user_id])
    place = {"roomId": made["room"]["roomId"]}
    sent = await call(alice, "message:send", **place, text="one", clientId="c", mentions=[bob.user_id])
    await call(alice, "message:send", **place, text="one", clientId="c", mentions=[bob.user_id])
    await bob.received.next("message:received")
    one = place | {"seq": sent["seq"]}
    await call(bob, "message:send", **place, text="two", replyTo=sent["seq"])
    await call(bob, "typing:start", **place)
    await call(alice, "message:edit", **one, text="once")
    await call(bob, "message:react", **one, emoji="👍")
    await call(alice, "message:pin", **one, pinned=True)
    await call(bob, "message:read", **one)
    reads: dict[str, dict[str, Any]] = {
        "message:history": place, "message:thread": one, "message:receipts": one, "room:get": place, "room:list": {},
        "room:members": place, "room:update": place | {"slowModeSeconds": 0}, "user:get": {"userIds": [bob.user_id]},
        "message:sync": {"rooms": {place["roomId"]: 0, "not-there": 0}}, "channel:list": {}, "session:list": {},
        "notification:list": {}, "room:mute": place | {"until": None}, "presence:get": {"userIds": [bob.user_id]},
        "user:blocks": {}, "message:delivered": one,
    }  # fmt: skip
    for event, payload in reads.items():
        await call(alice, event, **payload)
    await call(bob, "notification:read", all=True)
    await call(alice, "room:role", **place, userId=bob.user_id, role="admin")
    await call(alice, "message:delete", **one)
    foreign, faulty = {"roomId": "not-there", "text": "x"}, {"text": 1}
    said.append(("message:send", foreign, await alice.call("message:send", foreign)))
    said.append(("message:send", faulty, await alice.call("message:send", faulty)))
    await alice.push("message:send", {"text": 1})
    await alice.received.next("event:error")
    await call(alice, "room:delete", **place)
    await bob.received.next("room:removed")
    return said


def _closed(document: dict[str, Any]) -> dict[str, Any]:
    """The document without leave for fields that it does not name."""
    closed = copy.deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return closed


class _Page(HTMLParser):
    """The ids of a page and where its links lead; fails on tags that are not closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self._open = set[str](), set[str](), list[str]()
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br"):
            self._open.append(tag)
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        self.links.add(found.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_the_page_is_whole(catalogue: Catalogue) -> None:
    """Each event and type has its section, links within the page lead somewhere, and every tag is closed."""
    page = _Page(reference_page(catalogue))
    events = [f"client.{event.name}" for event in catalogue.client_events]
    events += [f"server.{event.name}" for event in catalogue.server_events]
    assert set(events) <= page.ids
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids


async def test_a_development_server_serves_them(server: Node) -> None:
    """All three, of their type, and the types are the ones in docs/."""
    async with aiohttp.ClientSession() as http:
        bodies = {}
        for path, kind in zip(PATHS, ("application/json", "text/plain", "text/html"), strict=True):
            async with http.get(server.url + path) as response:
                assert (response.status, response.content_type) == (200, kind)
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                bodies[path] = await response.text()
        assert json.loads(bodies["/asyncapi.json"])["asyncapi"] == "3.0.0"
        assert bodies["/parley.d.ts"] == (DOCS / "parley.d.ts").read_text()
        async with http.get(server.url + "/static/reference.css") as response:
            assert response.status == 200


async def test_production_keeps_them_to_itself_unless_told_otherwise(
    start_node: Callable[..., Any],
) -> None:
    """Without PUBLIC_DOCS=on they do not exist there."""
    async with aiohttp.ClientSession() as http:
        for expected, environment in ((404, {}), (200, {"PUBLIC_DOCS": "on"})):
            node = await start_node(ENVIRONMENT="production", **environment)
            for path in PATHS:
                async with http.get(node.url + path) as response:
                    assert response.status == expected, path
