"""The handlers of a session's begin and end, as python-socketio's users write them: with all arguments or fewer."""

import inspect
from collections.abc import Callable
from typing import Any


async def call_fitting(handler: Callable[..., Any], *offered: Any) -> Any:
    """Call a handler, once, with as many of the arguments as it takes, the first ones."""
    result = handler(*offered[: _takes(handler, len(offered))])
    return await result if inspect.isawaitable(result) else result


def _takes(handler: Callable[..., Any], offered: int) -> int:
    """How many of the arguments offered a handler can be called with, the first ones."""
    signature = inspect.signature(handler)
    for count in range(offered, 0, -1):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    return offered
