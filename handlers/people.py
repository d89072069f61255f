"""Users as others see them: the profile that their tokens carry (wire contract, sections 1 and 3)."""

from auth.caller import Caller
from handlers.pages import PAGE_MAX_BYTES
from handlers.services import Services
from protocol.commands import GetUsers
from protocol.events import UserUpdated
from protocol.replies import UsersReply
from protocol.resources import Person
from storage.users import NO_PROFILE, Profile


async def get_users(caller: Caller, command: GetUsers, services: Services) -> UsersReply:
    """How these users want to be shown, nulls for those of whom nothing is known; as many as fit into a reply."""
    profiles = await services.users.profiles(command.user_ids)
    users: dict[str, Person] = {}
    size = 0
    for user_id in command.user_ids:
        profile = profiles.get(user_id, NO_PROFILE)
        person = Person(name=profile.name, avatar=profile.avatar)
        size += len(user_id) + len(person.wire_json())
        if size > PAGE_MAX_BYTES:
            break
        users[user_id] = person
    return UsersReply(users=users)


def has_profile(caller: Caller) -> bool:
    """Whether the caller's token carries a profile."""
    return caller.name is not None or caller.avatar is not None


async def keep_profile(caller: Caller, services: Services) -> None:
    """Keep the profile of the caller's token, if it carries one, and tell of it when it is another than before."""
    if not has_profile(caller):
        return
    profile = Profile(caller.name, caller.avatar)
    if await services.users.upsert(caller.user_id, profile, caller.issued_at):
        tell_profile(caller.user_id, profile, services)


def tell_profile(user_id: str, profile: Profile, services: Services) -> None:
    """Show a user's new profile to their own devices. Whoever else is to see it is told from here."""
    updated = UserUpdated(user_id=user_id, name=profile.name, avatar=profile.avatar)
    services.fanout.to_user(user_id, updated)
    services.watching.tell_watchers(user_id, updated)
