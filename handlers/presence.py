"""Who is here (wire contract, section 5)."""

from collections.abc import Mapping, Sequence

from auth.caller import Caller
from handlers.services import Services
from handlers.sightings import moment
from handlers.watching import WATCHES_MAX
from presence.state import OFFLINE, Presence
from protocol.commands import GetPresence, SetPresence, WatchPresence
from protocol.errors import ValidationFailed
from protocol.replies import PresenceReply, Reply
from protocol.resources import UserPresence


async def set_presence(caller: Caller, command: SetPresence, services: Services) -> Reply:
    """Put the calling device into a status. Everybody can read it from now on, while Redis is there."""
    if caller.session_id is not None:
        await services.tracker.set_status(caller.session_id, command.status)
    return Reply()


async def get_presence(caller: Caller, command: GetPresence, services: Services) -> PresenceReply:
    """How these users look to the caller; who is not for them to see looks offline."""
    visible = await services.watch_rights.visible_to(caller.user_id, command.user_ids)
    return _reply(command.user_ids, await services.watching.look(visible))


async def subscribe_presence(caller: Caller, command: WatchPresence, services: Services) -> PresenceReply:
    """The same, and be told from now on when it changes; of who is not for the caller to see, nothing is told.

    Raises: ValidationFailed when the connection would watch too many.
    """
    if caller.session_id is None:
        raise ValidationFailed("only a connection can watch")
    visible = await services.watch_rights.visible_to(caller.user_id, command.user_ids)
    if len(visible | set(services.watching.watched_by(caller.session_id))) > WATCHES_MAX:
        fault = f"a connection watches at most {WATCHES_MAX} users"
        raise ValidationFailed(details=[{"field": "userIds", "message": fault}])
    return _reply(command.user_ids, await services.watching.watch(caller.session_id, visible))


async def unsubscribe_presence(caller: Caller, command: WatchPresence, services: Services) -> Reply:
    """Be told no longer, except of the other sides of direct rooms."""
    if caller.session_id is not None:
        peers = await services.watch_rights.peers_of(caller.session_id)
        services.watching.unwatch(caller.session_id, set(command.user_ids) - peers)
    return Reply()


def _reply(user_ids: Sequence[str], found: Mapping[str, Presence]) -> PresenceReply:
    return PresenceReply(users={user_id: _as_seen(found.get(user_id, OFFLINE)) for user_id in user_ids})


def _as_seen(presence: Presence) -> UserPresence:
    return UserPresence(status=presence.status, last_seen=moment(presence.last_seen), devices=presence.devices)
