"""The presence scenario in small: what holds for ten thousand holds for sixty."""

from loadtests.presence import Plan, run_presence
from tests.nodes import SECRET, Node


async def test_who_comes_back_in_time_is_never_shown_offline(server: Node) -> None:
    """Half drop and are back within the grace: nobody hears of it; many changes are one event a second and watcher."""
    plan = Plan(users=60, watchers=5, processes=1, phases=("connect", "watch", "blink", "flap"))
    connect, watch, blink, flap = await run_presence(plan, server.url, SECRET)
    assert not any(row.told.failures for row in (connect, watch, blink, flap))
    assert len(blink.told.away) == 30
    assert blink.told.wrongly_offline == 0
    if max(blink.told.away) < 5:
        assert blink.told.events.total() == 0
    # 30 users with 5 watchers each: at once, then once a second while it goes on and after.
    assert 30 * 5 <= flap.told.events.total() <= 30 * 5 * (flap.seconds + 1)
    assert flap.told.events.keys() == {"status"}
