"""The devices that this node holds itself, and those that have just left it. Pure: the caller brings the time.

A device that has gone counts for a moment longer: a page that is loaded anew, or changes its network, shows nothing.
"""

from dataclasses import dataclass
from typing import Final

from presence.deadlines import Deadlines
from presence.state import merge
from protocol.types import PresenceStatus

GRACE_SECONDS: Final = 5.0
"""How long a device counts after it has gone (wire contract, section 5)."""
EXPIRED_AT_ONCE: Final = 500
"""After a mass disconnect the loop may do something else in between; a device costs it about 10 µs."""
LINGERING_MAX: Final = 16
"""Gone devices of one user that count on; a client that comes and goes all the time pushes its own out early."""


@dataclass(slots=True)
class Device:
    """One session of a user; `device_id` is what the client calls its device, to be known again by it."""

    user_id: str
    device_id: str | None
    status: PresenceStatus = PresenceStatus.ONLINE
    gone: bool = False


class Devices:
    """The sessions of one node, by user. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._of_user: dict[str, dict[str, Device]] = {}
        self._lingering: Deadlines[str] = Deadlines()

    def users(self) -> list[str]:
        """Whoever has a device here that counts."""
        return list(self._of_user)

    def user_of(self, session_id: str) -> str | None:
        """Whose session this is, while it is connected."""
        device = self._devices.get(session_id)
        return None if device is None or device.gone else device.user_id

    def connect(self, session_id: str, user_id: str, device_id: str | None) -> None:
        """A device has come. One that comes back takes over the status that it left with."""
        device = Device(user_id, device_id)
        mine = self._of_user.setdefault(user_id, {})
        for other_id, other in list(mine.items()):
            if device_id is not None and other.gone and other.device_id == device_id:
                device.status = other.status
                self._remove(other_id)
        self._devices[session_id] = device
        self._of_user.setdefault(user_id, {})[session_id] = device

    def disconnect(self, session_id: str, now: float) -> str | None:
        """A device has gone, and counts until its grace is over. Returns its user, None without one."""
        device = self._devices.get(session_id)
        if device is None or device.gone:
            return None
        device.gone = True
        self._lingering.set(session_id, now + GRACE_SECONDS)
        gone = [other_id for other_id, other in self._of_user[device.user_id].items() if other.gone]
        for other_id in gone[:-LINGERING_MAX]:
            self._remove(other_id)
        return device.user_id

    def set_status(self, session_id: str, status: PresenceStatus) -> str | None:
        """A connected device is in another status. Returns its user; None when there is no such device."""
        user_id = self.user_of(session_id)
        if user_id is not None:
            self._devices[session_id].status = status
        return user_id

    def next_due(self) -> float | None:
        """When the next grace is over."""
        return self._lingering.next()

    def await_return(self, user_id: str, now: float) -> None:
        """A user is being let in: until they are, those of their devices that have gone count on."""
        for session_id, device in self._of_user.get(user_id, {}).items():
            if device.gone:
                self._lingering.set(session_id, now + GRACE_SECONDS)

    def expire(self, now: float) -> list[str]:
        """Forget devices whose grace is over, some at a time. Returns their users."""
        users = []
        for session_id in self._lingering.pop(now, EXPIRED_AT_ONCE):
            users.append(self._devices[session_id].user_id)
            self._remove(session_id)
        return users

    def merged(self, user_id: str) -> tuple[PresenceStatus, int] | None:
        """A user's status here and how many devices are connected, 1 when all have just gone; None without any."""
        mine = self._of_user.get(user_id, {}).values()
        status = merge(device.status for device in mine)
        return None if status is None else (status, max(1, sum(not device.gone for device in mine)))

    def _remove(self, session_id: str) -> None:
        device = self._devices.pop(session_id)
        self._lingering.drop(session_id)
        mine = self._of_user[device.user_id]
        del mine[session_id]
        if not mine:
            del self._of_user[device.user_id]
