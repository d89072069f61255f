"""Bad input to every event: refused by name, answered once, and without any effect."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handlers.routes import ROUTES
from tests.clients.raw import RawSocket, raw_socket
from tests.nodes import Node

HUGE, POWER, NUL_ESCAPED = "@huge@", "@power@", "\x00"
LITERALLY = {HUGE: "1e400", POWER: str(2**60)}
SURROGATE = "\ud800"
OPERATOR = {"$ne": None}
REQUIRED = "required"
ROOM, USER = "A" * 22, "someone"

VALID: dict[str, dict[str, Any]] = {
    "room:create": {"kind": "group"},
    "room:get": {"roomId": ROOM},
    "room:update": {"roomId": ROOM},
    "room:delete": {"roomId": ROOM},
    "room:list": {},
    "channel:list": {},
    "room:members": {"roomId": ROOM},
    "room:join": {"roomId": ROOM},
    "room:leave": {"roomId": ROOM},
    "room:invite": {"roomId": ROOM, "userIds": [USER]},
    "room:kick": {"roomId": ROOM, "userId": USER},
    "room:ban": {"roomId": ROOM, "userId": USER},
    "room:unban": {"roomId": ROOM, "userId": USER},
    "room:role": {"roomId": ROOM, "userId": USER, "role": "owner"},
    "room:mute": {"roomId": ROOM, "until": None},
    "message:send": {"roomId": ROOM, "text": "no"},
    "message:history": {"roomId": ROOM},
    "message:sync": {"rooms": {}},
    "message:thread": {"roomId": ROOM, "seq": 1},
    "message:delivered": {"roomId": ROOM, "seq": 1},
    "message:read": {"roomId": ROOM, "seq": 1},
    "message:receipts": {"roomId": ROOM, "seq": 1},
    "message:edit": {"roomId": ROOM, "seq": 1, "text": "no"},
    "message:delete": {"roomId": ROOM, "seq": 1},
    "message:react": {"roomId": ROOM, "seq": 1, "emoji": "👍"},
    "message:pin": {"roomId": ROOM, "seq": 1, "pinned": True},
    "user:get": {"userIds": [USER]},
    "auth:refresh": {"token": "a.b.c"},
    "session:list": {},
    "session:end": {"sessionId": "A" * 20},
    "message:report": {"roomId": ROOM, "seq": 1, "reason": "no"},
    "user:block": {"userId": USER},
    "user:unblock": {"userId": USER},
    "user:blocks": {},
    "notification:list": {},
    "notification:read": {"ids": ["no"]},
    "typing:start": {"roomId": ROOM},
    "typing:stop": {"roomId": ROOM},
    "presence:set": {"status": "online"},
    "presence:get": {"userIds": [USER]},
    "presence:subscribe": {"userIds": [USER]},
    "presence:unsubscribe": {"userIds": [USER]},
}
"""The least that each event takes; a fault is put into it, or one of its fields left out."""

NO_STRING: list[Any] = [None, 1, True, 1.5, [], ["a"], {}, OPERATOR]
BAD_STRING: list[Any] = ["", SURROGATE, f"a{NUL_ESCAPED}b"]
NO_FLAG: list[Any] = [None, 0, 1, "true", "", [], {}, OPERATOR]
NO_LIST: list[Any] = [None, "a", 1, True, {}, OPERATOR]
NO_SEQ: list[Any] = [None, "1", 1.5, True, -1, [], OPERATOR, POWER, HUGE, f"-{2**60}"]
NO_LIMIT: list[Any] = [*NO_SEQ, 0]
NO_CURSOR: list[Any] = [*NO_STRING, *BAD_STRING, "a b", "!", "a" * 513, "AAAA", "MQ==", "Li4="]
NO_USER: list[Any] = [*NO_STRING, *BAD_STRING, "a" * 65, "@room", "a b", "a\n", "a/b", "ä"]
NO_METADATA: list[Any] = [
    None, "a", 1, True, [], {"$ne": None}, {"a": {"$gt": ""}}, {"a.b": 1}, {"": 1}, {"a": [{"b.c": 1}]},
    {"a": POWER}, {"a": HUGE}, {"a": -(2**53)}, {"a": SURROGATE}, {SURROGATE: 1}, {"a": "\x00"}, {"a\x00": 1},
    {"a": "x" * 4096}, {"a": "ä" * 2048},
]  # fmt: skip
NO_ROOM: list[Any] = [*NO_STRING, *BAD_STRING, "a" * 65, "a b", "a.b", "a\n", "$a", "ä"]

FAULTS: dict[str, list[Any]] = {
    "roomId": NO_ROOM,
    "kind": [*NO_STRING, *BAD_STRING, "GROUP", "dm"],
    "memberIds": [*NO_LIST, *([value] for value in NO_USER), ["a", "a"], [f"u{n}" for n in range(201)]],
    "title": [*NO_STRING, *BAD_STRING, "a" * 201, "   "],
    "query": [*NO_STRING, *BAD_STRING, "a" * 201],
    "metadata": NO_METADATA,
    "externalId": [*NO_STRING, *BAD_STRING, "a" * 65],
    "clientId": [*NO_STRING, *BAD_STRING, "a" * 65],
    "slowModeSeconds": [*NO_SEQ, 86_401],
    "cursor": NO_CURSOR,
    "limit": [*NO_LIMIT, 101],
    "userIds": [*NO_LIST, [], *([value] for value in NO_USER), ["a", "a"], [f"u{n}" for n in range(201)]],
    "userId": NO_USER,
    "role": [*NO_STRING, *BAD_STRING, "OWNER", "king"],
    "status": [*NO_STRING, *BAD_STRING, "ONLINE", "offline"],
    "until": [
        1, True, 0.5, [], {}, OPERATOR, "", "tomorrow", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:00+02:00", "0000-01-01T00:00:00Z", f"2026-01-31T12:00:00{SURROGATE}Z",
    ],
    "text": [*NO_STRING, *BAD_STRING, "a" * 10_001],
    "replyTo": [*NO_SEQ, 0],
    "attachments": [*NO_LIST, *([value] for value in [*NO_STRING, *BAD_STRING]), [f"a{n}" for n in range(11)]],
    "mentions": [
        *NO_LIST, *([value] for value in NO_USER if value != "@room"), ["a", "a"], ["@all"],
        [f"u{n}" for n in range(51)],
    ],
    "before": [*NO_SEQ, 0],
    "after": NO_SEQ,
    "around": [*NO_SEQ, 0],
    "rooms": [
        None, "a", 1, True, [], [ROOM], OPERATOR, {"a b": 1}, {"a.b": 1}, {SURROGATE: 1}, {"": 1}, {"a" * 65: 1},
        *({ROOM: value} for value in NO_SEQ), {f"r{n}": 0 for n in range(201)},
    ],
    "syncToken": [
        *NO_CURSOR, "Mi4x", "MS4x", "MS45OTk5OTk5OTk5OTk5OTk5", "Mi4xNzY3MjI1NjAwMDAwLjE3NjcyMjU2MDAwMDAuLTEucg==",
    ],
    "seq": [*NO_SEQ, 0],
    "emoji": [
        *NO_STRING, *BAD_STRING, "a", ":thumbsup:", "👍👍", "👍 ", "❤", "👍\ufe0f", "1", "🏽", "🇺", "$inc", "😀" * 100,
    ],
    "remove": NO_FLAG,
    "pinned": NO_FLAG,
    "token": [*NO_STRING, *BAD_STRING],
    "sessionId": NO_ROOM,
    "reason": [*NO_STRING, *BAD_STRING, " \n", "a" * 1_001],
    "ids": [*NO_LIST, [], [1], [None], [""], [SURROGATE], ["a" * 129], ["a"] * 501],
    "all": [*NO_FLAG, False],
    "unreadOnly": NO_FLAG,
}  # fmt: skip
"""What each field must refuse, whichever event it is in."""

EXCEPT: dict[tuple[str, str], list[Any]] = {
    ("room:list", "limit"): [*NO_LIMIT, 501],
    ("message:sync", "limit"): [*NO_LIMIT, 501],
    ("presence:subscribe", "userIds"): [*NO_LIST, [], *([value] for value in NO_USER), [f"u{n}" for n in range(501)]],
    ("presence:unsubscribe", "userIds"): [*NO_LIST, [], *([value] for value in NO_USER), [f"u{n}" for n in range(501)]],
}
TOGETHER: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "room:create": [
        ("memberIds", {"kind": "direct"}),
        ("memberIds", {"kind": "direct", "memberIds": ["a", "b"]}),
        ("title", {"kind": "direct", "memberIds": ["a"], "title": "Ours"}),
        ("metadata", {"kind": "direct", "memberIds": ["a"], "metadata": {"a": 1}}),
        ("externalId", {"kind": "direct", "memberIds": ["a"], "externalId": "ours"}),
    ],
    "message:send": [("text", {"roomId": ROOM}), ("text", {"roomId": ROOM, "attachments": []})],
    "message:history": [("before", {"roomId": ROOM, "before": 2, "after": 1})],
    "notification:read": [("ids", {}), ("ids", {"ids": ["no"], "all": True})],
}
"""Faults that lie in several fields at once, and the field that is named."""


def faults_of(event: str) -> Iterator[tuple[str, Any]]:
    """Every bad payload for an event, with the field that the answer must name."""
    valid = VALID[event]
    for field in fields_of(event):
        for value in EXCEPT.get((event, field), FAULTS[field]):
            yield field, {**valid, field: value}
    for field in valid:
        yield field, {name: value for name, value in valid.items() if name != field}
    for field in ("nope", "room_id", "$where", "__proto__", "a.b"):
        yield field, {**valid, field: 1}
    yield "", {**valid, SURROGATE: 1}
    yield from TOGETHER.get(event, [])
    for payload in ("text", 1, True, None, [], [valid], HUGE):
        yield "", payload


def fields_of(event: str) -> list[str]:
    return [str(field.alias) for field in ROUTES[event].command.model_fields.values()]


def test_the_table_is_complete() -> None:
    """Every event and every field of it has its faults, so that a new one does not go untested."""
    assert set(VALID) == set(ROUTES)
    assert {field for event in ROUTES for field in fields_of(event)} == set(FAULTS)


@pytest.mark.parametrize("event", ROUTES)
async def test_bad_payloads_are_refused_by_field_and_change_nothing(
    server: Node, user_id: Callable[[str], str], event: str
) -> None:
    """Each bad value of each field is a VALIDATION_ERROR naming that field, and all is afterwards as it was."""
    async with raw_socket(server, user_id("alice")) as raw:
        room_id = (await raw.call("room:create", {"kind": "channel", "title": "T", "memberIds": [user_id("bob")]}))[
            "room"
        ]["roomId"]
        await raw.call("message:send", {"roomId": room_id, "text": "before"})
        before = await state(raw, room_id)
        cases = [(field, in_room(payload, room_id)) for field, payload in faults_of(event)]
        numbers = [await raw.push(event, payload, literally=LITERALLY) for _, payload in cases]
        answers = [await raw.ack(number) for number in numbers]
        wrong = [
            (json.dumps(payload)[:200], answer)
            for (field, payload), answer in zip(cases, answers, strict=True)
            if not refuses(answer, field)
        ]
        assert wrong == []
        assert await state(raw, room_id) == before


def refuses(answer: dict[str, Any], field: str) -> bool:
    """Whether this is a VALIDATION_ERROR that names the field."""
    error = answer.get("error", {})
    details = error.get("details", [])
    return (
        (answer["success"], error.get("code"), error.get("retryable")) == (False, "VALIDATION_ERROR", False)
        and all(set(fault) == {"field", "message"} for fault in details)
        and field in {named(fault["field"], field) for fault in details}
    )


def named(path: str, field: str) -> str:
    """The field that a path lies in; "a.b" may also be a name."""
    return field if path == field else path.split(".")[0]


def in_room(payload: Any, room_id: str) -> Any:
    """The payload aimed at a real room, so that only the fault can stop it."""
    if isinstance(payload, dict) and payload.get("roomId") == ROOM:
        return {**payload, "roomId": room_id}
    return payload


async def state(raw: RawSocket, room_id: str) -> list[Any]:
    """All that a member sees of how things stand; sync tokens apart, which are times."""
    return [
        await raw.call("room:get", {"roomId": room_id}),
        await raw.call("room:list"),
        await raw.call("room:members", {"roomId": room_id}),
        await raw.call("message:history", {"roomId": room_id}),
    ]


@pytest.mark.parametrize("event", ROUTES)
async def test_an_event_takes_one_payload(server: Node, user_id: Callable[[str], str], event: str) -> None:
    """A second argument is a VALIDATION_ERROR of the payload as a whole."""
    async with raw_socket(server, user_id("alice")) as raw:
        answer = await raw.call(event, VALID[event], {})
        assert answer["error"]["code"] == "VALIDATION_ERROR"
        assert [fault["field"] for fault in answer["error"]["details"]] == [""]


async def test_a_missing_payload_is_an_empty_one(server: Node, user_id: Callable[[str], str]) -> None:
    """An event that needs no field may come alone; one that does is told which."""
    async with raw_socket(server, user_id("alice")) as raw:
        assert (await raw.call("room:list"))["rooms"] == []
        error = (await raw.call("room:get"))["error"]
        assert (error["code"], [fault["field"] for fault in error["details"]]) == ("VALIDATION_ERROR", ["roomId"])


async def test_bounds_are_inclusive(server: Node, user_id: Callable[[str], str]) -> None:
    """The largest allowed value of each bound is taken, counted in code points and UTF-8 bytes."""
    async with raw_socket(server, user_id("alice")) as raw:
        others = [user_id(f"u{n}") for n in range(200)]
        wide = {"kind": "group", "title": "😀" * 200, "metadata": {"a": "x" * (4096 - 8)}, "clientId": "😀" * 64}
        room = (await raw.call("room:create", {**wide, "memberIds": others}))["room"]
        assert (room["title"], room["metadata"], room["memberCount"]) == (wide["title"], wide["metadata"], 201)
        here = {"roomId": room["roomId"]}
        for event, payload in (
            ("message:send", {"text": "😀" * 10_000, "mentions": others[:50], "metadata": {"n": 2**53 - 1}}),
            ("message:send", {"text": "\n", "replyTo": 1, "metadata": {"n": -(2**53 - 1), "f": 1.5, "deep": [[{}]]}}),
            ("message:history", {"limit": 100, "after": 0}),
            ("message:history", {"limit": 1, "before": 2**53 - 1}),
            ("room:members", {"limit": 100}),
            ("room:update", {"slowModeSeconds": 86_400}),
            ("room:update", {"slowModeSeconds": 0}),
        ):
            answer = await raw.call(event, {**here, **payload})
            assert answer["success"] is True, (event, answer)
        assert (await raw.call("room:list", {"limit": 500}))["success"] is True
        synced = await raw.call("message:sync", {"rooms": {f"r{n}": 2**53 - 1 for n in range(200)}, "limit": 500})
        assert set(map(json.dumps, synced["rooms"].values())) == {'{"gone": true}'}


@pytest.mark.parametrize("name", ["message:sent", "", "__class__", "room:get ", "\ud800", "a" * 5_000, "connectX"])
async def test_unknown_events_are_answered(server: Node, user_id: Callable[[str], str], name: str) -> None:
    """An event outside the contract is UNKNOWN_EVENT, by its callback, or else by `event:error`."""
    async with raw_socket(server, user_id("alice")) as raw:
        answer = await raw.call(name, {})
        assert (answer["success"], answer["error"]["code"]) == (False, "UNKNOWN_EVENT")
        await raw.send("42" + json.dumps([name, {}]))
        await raw.until(lambda: raw.events("event:error"))
        (failed,) = raw.events("event:error")
        assert set(failed) == {"event", "error"}
        assert failed["error"]["code"] == "UNKNOWN_EVENT"
        assert failed["event"] == name[:100].replace("\ud800", "?")


async def test_a_failure_without_a_callback_is_an_event(server: Node, user_id: Callable[[str], str]) -> None:
    """Every kind of failure arrives as `event:error { event, error }`, and success without a callback as nothing."""
    async with raw_socket(server, user_id("alice")) as raw:
        await raw.send('42["room:list"]', '42["room:get"]', '42["room:get",{"roomId":"' + ROOM + '"}]')
        await raw.until(lambda: len(raw.events("event:error")) == 2)
        first, second = raw.events("event:error")
        assert (first["event"], first["error"]["code"]) == ("room:get", "VALIDATION_ERROR")
        assert [fault["field"] for fault in first["error"]["details"]] == ["roomId"]
        assert (second["event"], second["error"]["code"]) == ("room:get", "NOT_FOUND")
        await raw.call("room:list")
        assert (len(raw.events("event:error")), raw.ack_numbers()) == (2, [1])


BROKEN = {
    "connect": '42["connect",{},{}]',
    "connect with an ack": '421["connect",{}]',
    "connect_error": '42["connect_error"]',
    "disconnect": '42["disconnect"]',
    "disconnecting": '42["disconnecting"]',
    "newListener": '42["newListener",{}]',
    "removeListener": '42["removeListener",{}]',
    "escaped": '42["\\u0063onnect",{}]',
    "binary": '451-["disconnect",{"_placeholder":true,"num":0}]',
    "name is a number": "42[1]",
    "name is null": "42[null]",
    "name is a list": '42[["room:get"]]',
    "no name": "42[]",
    "an object": "42{}",
    "nothing": "42",
    "a string": '42"room:get"',
    "not JSON": '42["room:get",',
    "NaN": '42["room:list",{"limit":NaN}]',
    "Infinity": '42["room:list",{"limit":-Infinity}]',
    "trailing text": '42["room:list"]x',
    "too deep": '42["room:list",' + "[" * 40 + "]" * 40 + "]",
    "very deep": '42["room:list",' + "[" * 100_000 + "]" * 100_000 + "]",
    "unknown type": "49",
    "CONNECT_ERROR": '44{"message":"no"}',
    "CONNECT again": '40{"token":"x"}',
    "empty message": "4",
    "Engine.IO type": "7",
    "empty packet": "",
    "ack without id": "43[]",
    "ack that is no list": "431{}",
    "endless id": "42" + "1" * 200 + '["room:list"]',
    "attachments: eleven": "4511-[]",
    "attachments: none": '450-["room:list"]',
    "attachments: no number": '45x-["room:list"]',
    "text among attachments": '451-["room:list",{"_placeholder":true,"num":0}]\n42["room:list"]',
    "other namespace": '42/other,["room:list"]',
}


@pytest.mark.parametrize("packets", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_protocol_ends_the_connection(server: Node, user_id: Callable[[str], str], packets: str) -> None:
    """Reserved names and malformed packets close within a second, after `session:closed` and DISCONNECT."""
    async with raw_socket(server, user_id("alice")) as raw:
        await raw.send(*packets.split("\n"))
        await raw.closed(seconds=3)
        assert raw.events("session:closed") == [{"code": "PROTOCOL_ERROR", "reconnect": False}]
        assert raw.packets[-1] == "41"
        assert raw.ack_numbers() == []
        assert not raw.events("event:error")


@pytest.mark.parametrize("attachments", [1, 2])
async def test_unexpected_attachments_end_the_connection(
    server: Node, user_id: Callable[[str], str], attachments: int
) -> None:
    """A binary frame that no packet announced is a broken protocol, before an event and after it."""
    async with raw_socket(server, user_id("alice")) as raw:
        if attachments > 1:
            await raw.send('451-7["room:list",{"_placeholder":true,"num":0}]')
        for _ in range(attachments):
            await raw.send_bytes(b"x")
        await raw.closed(seconds=3)
        assert raw.events("session:closed") == [{"code": "PROTOCOL_ERROR", "reconnect": False}]


async def test_acks_nobody_asked_for_are_ignored(server: Node, user_id: Callable[[str], str]) -> None:
    """They neither end the connection nor fill the log."""
    async with raw_socket(server, user_id("alice")) as raw:
        await raw.call("room:list")
        before = server.log_text()
        await raw.send(*["430[]", "431[]", '432[{"a":1}]', "4399999999[1,2,3]"] * 20)
        assert (await raw.call("room:list"))["success"] is True
        assert server.log_text() == before


async def test_numbers_of_any_length_are_fields(server: Node, user_id: Callable[[str], str]) -> None:
    """A number that no machine holds is a bad field, not a broken packet."""
    async with raw_socket(server, user_id("alice")) as raw:
        for literal in ("1e400", "-1e400", "1" * 400, "1" * 5_000, "-" + "9" * 5_000):
            answer = await raw.call("room:list", {"limit": HUGE}, literally={HUGE: literal})
            assert answer["error"]["code"] == "VALIDATION_ERROR", literal[:10]
            answer = await raw.call(
                "room:create", {"kind": "group", "metadata": {"n": HUGE}}, literally={HUGE: literal}
            )
            assert answer["error"]["code"] == "VALIDATION_ERROR", literal[:10]


async def test_binary_payloads_are_no_json(server: Node, user_id: Callable[[str], str]) -> None:
    """Bytes where the contract has text or JSON are a VALIDATION_ERROR; the connection stays."""
    async with raw_socket(server, user_id("alice")) as raw:
        room_id = (await raw.call("room:create", {"kind": "group"}))["room"]["roomId"]
        placeholder = {"_placeholder": True, "num": 0}
        for number, payload in enumerate(
            (
                {"roomId": placeholder, "text": "a"},
                {"roomId": room_id, "text": placeholder},
                {"roomId": room_id, "text": "a", "metadata": {"a": placeholder}},
                placeholder,
            ),
            start=100,
        ):
            await raw.send(f"451-{number}" + json.dumps(["message:send", payload]))
            await raw.send_bytes(b"\xff\x00")
            assert (await raw.ack(number))["error"]["code"] == "VALIDATION_ERROR", payload
        assert (await raw.call("message:history", {"roomId": room_id}))["messages"] == []


async def test_every_callback_is_called_exactly_once(server: Node, user_id: Callable[[str], str]) -> None:
    """Of 300 events of all kinds, good and bad, sent without waiting, each is answered once and none twice."""
    async with raw_socket(server, user_id("alice")) as raw:
        room_id = (await raw.call("room:create", {"kind": "group"}))["room"]["roomId"]
        here = {"roomId": room_id}
        events: list[tuple[str, Any]] = [
            ("message:send", {**here, "text": "hello"}),
            ("message:send", {**here, "text": ""}),
            ("room:get", here),
            ("message:history", {**here, "limit": 3}),
            ("no:such", {}),
            ("room:update", {**here, "metadata": {"a": 1}}),
            ("message:send", {"roomId": ROOM, "text": "nowhere"}),
            ("message:send", {**here, "text": "again", "clientId": "same"}),
            ("message:send", {**here, "text": "other", "clientId": "same"}),
            ("room:kick", {**here, "userId": USER}),
            ("room:list", {"limit": "many"}),
            ("channel:list", {"limit": 1}),
        ]
        numbers = [await raw.push(*events[count % len(events)]) for count in range(300)]
        await raw.until(lambda: set(numbers) <= set(raw.ack_numbers()), seconds=20)
        last = await raw.push("room:list")
        await raw.ack(last)
        assert sorted(raw.ack_numbers()) == list(range(1, last + 1))
        outcomes = [raw.acks(number)[0][0]["success"] for number in numbers[: len(events)]]
        assert outcomes == [True, False, True, True, False, True, False, True, False, False, False, True]
