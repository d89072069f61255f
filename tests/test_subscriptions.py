"""What a node believes to listen to, against a model of Redis that answers commands in order and late."""

import asyncio
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.subscriptions import Subscriptions

CHANNELS = ["a", "b"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["want", "drop"]), st.sampled_from(CHANNELS)),
        st.tuples(st.sampled_from(["send", "answer", "reconnect"]), st.just("")),
    ),
    max_size=60,
)


class Redis:
    """One connection: commands are carried out, and answered, in order."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.subscriptions = subscriptions
        self.listens: set[str] = set()
        self.commands: deque[tuple[str, bool]] = deque()

    def send(self) -> None:
        """Everything that changed leaves."""
        join, leave = self.subscriptions.take_changes()
        self.commands += [(channel, True) for channel in join] + [(channel, False) for channel in leave]

    def answer(self) -> None:
        """The oldest command is carried out and answered."""
        if self.commands:
            channel, subscribed = self.commands.popleft()
            (self.listens.add if subscribed else self.listens.discard)(channel)
            self.subscriptions.answered(channel, subscribed=subscribed)

    def reconnect(self) -> None:
        """A new connection; what was on the old one is gone."""
        self.listens.clear()
        self.commands.clear()
        self.subscriptions.begin()


@settings(max_examples=500, deadline=None)
@given(steps=STEPS)
def test_what_stands_is_listened_to_and_goes_on_being_so(steps: list[tuple[str, str]]) -> None:
    """A channel never stands while an unsubscribe is on its way; in the end exactly what is wanted stands."""
    subscriptions = Subscriptions()
    redis = Redis(subscriptions)
    for step, channel in steps:
        if step == "want":
            subscriptions.want(channel)
        elif step == "drop":
            subscriptions.drop(channel)
        else:
            getattr(redis, step)()
        for standing in subscriptions._standing:
            assert standing in redis.listens
            assert standing in subscriptions.wanted
            assert (standing, False) not in redis.commands
    redis.send()
    while redis.commands:
        redis.answer()
    assert subscriptions.complete
    assert subscriptions._standing == redis.listens == set(subscriptions.wanted)


async def test_waiting_ends_with_the_confirmation_the_connection_or_the_time() -> None:
    """Whoever waits is told when the channel stands, when nothing will come, and after the bound; lateness is noted."""
    subscriptions = Subscriptions()
    redis = Redis(subscriptions)
    subscriptions.want("a")
    redis.send()
    waiting = asyncio.create_task(subscriptions.stand(["a", "unwanted"], 5))
    await asyncio.sleep(0)
    assert not waiting.done()
    redis.answer()
    await asyncio.wait_for(waiting, 1)
    await subscriptions.stand(["a"], 5)

    redis.reconnect()
    waiting = asyncio.create_task(subscriptions.stand(["a"], 5))
    await asyncio.sleep(0)
    subscriptions.end()
    await asyncio.wait_for(waiting, 1)

    redis.reconnect()
    redis.send()
    await subscriptions.stand(["a"], 0.01)
    assert subscriptions.answered("a", subscribed=True)


def test_what_somebody_may_have_published_on_before_it_stood_is_told_when_it_does() -> None:
    """A channel in doubt is late when it is confirmed, once; one that stood before, or comes after, is not."""
    subscriptions = Subscriptions()
    redis = Redis(subscriptions)
    subscriptions.want("a")
    redis.send()
    redis.answer()
    subscriptions.want("b")
    redis.send()
    subscriptions.doubt_unanswered()
    assert subscriptions.answered("b", subscribed=True)
    for channel in ("a", "b", "c"):
        subscriptions.drop(channel)
        subscriptions.want(channel)
        subscriptions.take_changes()
        assert not subscriptions.answered(channel, subscribed=True)
