"""A session from its token to its end, and the user's other sessions (wire contract, sections 1 and 6)."""

import asyncio
from dataclasses import replace
from typing import Final

from auth.caller import Caller
from handlers.people import has_profile, keep_profile
from handlers.rooms import room_page
from handlers.services import Services
from handlers.sync_tokens import SyncToken, make_sync_token
from protocol.commands import EndSession, ListSessions, RefreshToken
from protocol.errors import Forbidden, NotFound, Unavailable
from protocol.events import SessionReady
from protocol.replies import RefreshReply, Reply, SessionsReply
from protocol.resources import OpenSession
from storage.openings import Opening

ROOMS_IN_READY = 100
SESSIONS_MAX: Final = 1_000
"""Sessions in one reply; so many are some 130 kB."""
ENDED_BY_USER: Final = "DISCONNECTED"


async def authenticate(token: object, services: Services) -> Caller:
    """Whom this token stands for. Raises: AuthRequired, TokenInvalid, TokenExpired, TokenRevoked, UserBlocked."""
    caller = await services.tokens.verify(token)
    await services.revocations.check(caller)
    return caller


async def open_session(
    caller: Caller, session_id: str, device_id: str | None, limits: dict[str, int], services: Services
) -> SessionReady:
    """Put a session into its user's rooms, then read what it is greeted with, so that nothing falls between."""
    services.tracker.await_return(caller.user_id)
    if has_profile(caller):
        opening, _ = await asyncio.gather(_enter(caller, session_id, services), keep_profile(caller, services))
    else:
        opening = await _enter(caller, session_id, services)
    memberships, unread_notifications = opening
    now = services.clock()
    page = await room_page(caller.user_id, memberships, None, ROOMS_IN_READY, services)
    stored_at = await services.feed.now()
    # Again: what was withdrawn meanwhile has ended only the sessions that were open.
    await services.revocations.check(caller)
    services.connections.opened(session_id, device_id)
    if services.connections.is_here(caller.user_id, session_id):
        services.tracker.connect(session_id, caller.user_id, device_id)
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
        unread_notifications=unread_notifications,
        sync_token=make_sync_token(SyncToken(stored_at)),
    )


async def _enter(caller: Caller, session_id: str, services: Services) -> Opening:
    """Put a session into its user's rooms. Returns what is stored of the user, but for rooms they were put out of."""
    with services.fanout.entering(caller.user_id) as expelled:
        await services.fanout.enter_as(session_id, caller.user_id)
        stored = await services.openings.of(caller.user_id)
        memberships = [membership for membership in stored.memberships if membership.room_id not in expelled]
        await services.fanout.enter_rooms(session_id, [membership.room_id for membership in memberships])
    return Opening(memberships, stored.unread_notifications)


async def refresh_token(caller: Caller, command: RefreshToken, services: Services) -> RefreshReply:
    """Go on as the caller of a newer token. Raises: Forbidden for another user's; as `authenticate` does."""
    renewed = replace(await authenticate(command.token, services), session_id=caller.session_id)
    if renewed.user_id != caller.user_id:
        raise Forbidden("the token is another user's")
    services.connections.renew(renewed)
    await keep_profile(renewed, services)
    return RefreshReply(expires_at=renewed.expires_at)


async def list_sessions(caller: Caller, command: ListSessions, services: Services) -> SessionsReply:
    """Where the caller is connected, on all nodes that answer, the latest first."""
    connections = await services.connections.of_user(caller.user_id)
    return SessionsReply(
        sessions=[
            OpenSession(
                session_id=connection.session_id,
                device_id=connection.device_id,
                connected_at=connection.connected_at,
                current=connection.session_id == caller.session_id,
            )
            for connection in connections[:SESSIONS_MAX]
        ]
    )


async def end_session(caller: Caller, command: EndSession, services: Services) -> Reply:
    """End one of the caller's own sessions, on whichever node.

    Raises: NotFound when there is none; Unavailable when it may be on a node that could not be asked.
    """
    if services.connections.is_here(caller.user_id, command.session_id):
        # After the answer, for it may be the session that asks.
        asyncio.get_running_loop().call_soon(services.connections.end, command.session_id, ENDED_BY_USER)
        return Reply()
    ended = await services.connections.end_elsewhere(caller.user_id, command.session_id, ENDED_BY_USER)
    if ended is None:
        raise Unavailable("not every node can be asked for this session now, try again")
    if not ended:
        raise NotFound
    return Reply()
