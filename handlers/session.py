"""Opening a session (wire contract, section 1)."""

from auth.caller import Caller
from handlers.rooms import room_page
from handlers.services import Services
from handlers.sync_tokens import make_sync_token
from protocol.events import SessionReady
from storage.users import Profile

ROOMS_IN_READY = 100


async def open_session(
    caller: Caller, session_id: str, device_id: str | None, limits: dict[str, int], services: Services
) -> SessionReady:
    """Put a session into its user's rooms, then read what it is greeted with, so that nothing falls between."""
    with services.fanout.entering(caller.user_id) as expelled:
        await services.fanout.enter_as(session_id, caller.user_id)
        stored = await services.members.memberships_of(caller.user_id)
        memberships = [membership for membership in stored if membership.room_id not in expelled]
        await services.fanout.enter_rooms(session_id, [membership.room_id for membership in memberships])
    if caller.name is not None or caller.avatar is not None:
        await services.users.upsert(caller.user_id, Profile(caller.name, caller.avatar))
    now = services.clock()
    page = await room_page(caller.user_id, memberships, None, ROOMS_IN_READY, services)
    return SessionReady(
        features=[],
        limits=limits,
        user_id=caller.user_id,
        session_id=session_id,
        device_id=device_id,
        server_time=now,
        expires_at=caller.expires_at,
        rooms=page.rooms,
        next_cursor=page.next_cursor,
        total_unread=page.total_unread,
        unread_notifications=0,
        sync_token=make_sync_token(now),
    )
