"""The permission table of the wire contract, section 3, row by row."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from auth import permissions
from protocol.errors import Forbidden, NotFound, ParleyError
from protocol.types import Role, RoomKind

OWNER, ADMIN, MEMBER, NOBODY = Role.OWNER, Role.ADMIN, Role.MEMBER, None
ACTORS = (OWNER, ADMIN, MEMBER, NOBODY)

# Answers: + allowed, - Forbidden, 0 NotFound; in each group the actor is owner, admin, member, no member.
TABLE = """
                        direct   group    channel
    invite              - - - 0  + + + 0  + + + -
    leave               - - - 0  + + + 0  + + + -
    update              - - - 0  + + - 0  + + - -
    pin                 - - - 0  + + - 0  + + - -
    mention_room        - - - 0  + + - 0  + + - -
    edit_own_message    + + + 0  + + + 0  + + + -
    edit_any_message    - - - 0  - - - 0  - - - -
    delete_own_message  + + + 0  + + + 0  + + + -
    delete_any_message  - - - 0  + + - 0  + + - -
    kick_owner          - - - 0  + - - 0  + - - -
    kick_admin          - - - 0  + + - 0  + + - -
    kick_member         - - - 0  + + - 0  + + - -
    kick_nobody         - - - 0  0 0 - 0  0 0 - -
    ban_owner           - - - 0  + - - 0  + - - -
    ban_admin           - - - 0  + + - 0  + + - -
    ban_member          - - - 0  + + - 0  + + - -
    ban_nobody          - - - 0  + + - 0  + + - -
    unban               - - - 0  + + - 0  + + - -
    set_role_of_owner   - - - 0  + - - 0  + - - -
    set_role_of_admin   - - - 0  + - - 0  + - - -
    set_role_of_member  - - - 0  + - - 0  + - - -
    set_role_of_nobody  - - - 0  0 - - 0  0 - - -
    delete_room         - - - 0  + - - 0  + - - -
"""

Check = Callable[[RoomKind, Role | None], None]
TARGETS = {"owner": OWNER, "admin": ADMIN, "member": MEMBER, "nobody": NOBODY}


def checks() -> dict[str, Check]:
    """Every row's question as a function of room kind and actor."""
    rows: dict[str, Check] = {
        "invite": permissions.check_can_invite,
        "leave": permissions.check_can_leave,
        "update": permissions.check_can_update,
        "pin": permissions.check_can_pin,
        "mention_room": permissions.check_can_mention_room,
        "edit_own_message": lambda kind, actor: permissions.check_can_edit_message(kind, actor, own=True),
        "edit_any_message": lambda kind, actor: permissions.check_can_edit_message(kind, actor, own=False),
        "delete_own_message": lambda kind, actor: permissions.check_can_delete_message(kind, actor, own=True),
        "delete_any_message": lambda kind, actor: permissions.check_can_delete_message(kind, actor, own=False),
        "unban": permissions.check_can_unban,
        "delete_room": permissions.check_can_delete_room,
    }
    for name, target in TARGETS.items():
        rows[f"kick_{name}"] = lambda kind, actor, target=target: permissions.check_can_kick(kind, actor, target)  # type: ignore[misc]
        rows[f"ban_{name}"] = lambda kind, actor, target=target: permissions.check_can_ban(kind, actor, target)  # type: ignore[misc]
        rows[f"set_role_of_{name}"] = lambda kind, actor, target=target: set_any_role(kind, actor, target)  # type: ignore[misc]
    return rows


def set_any_role(kind: RoomKind, actor: Role | None, target: Role | None) -> None:
    """The answer must not depend on the new role."""
    answers = {answer(lambda role=role: permissions.check_can_set_role(kind, actor, target, role)) for role in Role}  # type: ignore[misc]
    assert len(answers) == 1
    permissions.check_can_set_role(kind, actor, target, MEMBER)


def answer(check: Callable[[], None]) -> str:
    try:
        check()
    except ParleyError as error:
        return {Forbidden: "-", NotFound: "0"}[type(error)]
    return "+"


ROWS = {cells[0]: cells[1:] for cells in map(str.split, TABLE.strip().splitlines()[1:])}


@pytest.mark.parametrize("row", ROWS)
def test_permission_table(row: str) -> None:
    """Each action gives each role in each kind of room the answer of the table."""
    check = checks()[row]
    answers = [answer(lambda kind=kind, actor=actor: check(kind, actor)) for kind in RoomKind for actor in ACTORS]  # type: ignore[misc]
    assert answers == ROWS[row]


def test_the_table_is_complete() -> None:
    """No check without a row, so that a new one does not go untested."""
    assert set(ROWS) == set(checks())
    named = {name.removeprefix("check_can_") for name in dir(permissions) if name.startswith("check_can_")}
    assert named == {
        "invite", "leave", "update", "pin", "mention_room", "edit_message", "delete_message", "kick", "ban", "unban",
        "set_role", "delete_room",
    }  # fmt: skip


@dataclass(frozen=True)
class Member:
    user_id: str
    role: Role
    joined_at: datetime


def member(user_id: str, role: Role, minute: int) -> Member:
    return Member(user_id, role, datetime(2026, 1, 1, 0, minute, tzinfo=UTC))


@pytest.mark.parametrize(
    ("remaining", "heir"),
    [
        pytest.param([], None, id="nobody is left"),
        pytest.param([member("ada", OWNER, 5), member("bob", ADMIN, 1)], None, id="an owner remains"),
        pytest.param(
            [member("ada", MEMBER, 1), member("bob", ADMIN, 9), member("cyd", ADMIN, 5)], "cyd", id="the oldest admin"
        ),
        pytest.param([member("ada", MEMBER, 9), member("bob", MEMBER, 5)], "bob", id="else the oldest member"),
        pytest.param([member("bob", MEMBER, 5), member("ada", MEMBER, 5)], "ada", id="a tie goes by user id"),
    ],
)
def test_succession(remaining: list[Member], heir: str | None) -> None:
    """When the last owner leaves, every node names the same heir, whatever order the members come in."""
    for order in (remaining, remaining[::-1]):
        chosen = permissions.successor(order)
        assert (chosen and chosen.user_id) == heir
