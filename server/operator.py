"""What an operator does beside the running servers: revoke tokens, block users. The nodes read it from the database."""

import argparse
import re
from datetime import UTC, datetime
from typing import Final

from auth.tokens import MAX_TOKEN_ID_LENGTH
from protocol.types import USER_ID_PATTERN, iso_utc
from server.embedded import running_mongodb_url
from server.settings import Settings
from storage.mongo import Mongo, PyMongoError, UnsuitableStore
from storage.revocations import RevocationStore

OPERATOR_COMMANDS: Final = ("revoke", "block")


class CommandFailed(Exception):
    """The command had no effect; the message says why, for people. `status` is the exit status."""

    status = 1


class WrongArguments(CommandFailed):
    """The arguments do not go together."""

    status = 2


def add_operator_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `revoke` and `block` to the command line."""
    revoke = commands.add_parser(
        "revoke",
        help="withdraw tokens",
        description="Withdraw one token, or a user's tokens issued before a time. Connections by them end within 5 s.",
    )
    target = revoke.add_mutually_exclusive_group(required=True)
    target.add_argument("--jti", type=_token_id, metavar="ID", help="the token with this `jti`")
    target.add_argument("--user", type=_user_id, metavar="USER", help="tokens of this user")
    revoke.add_argument(
        "--issued-before",
        type=_past,
        metavar="TIME",
        help="only those whose `iat` is earlier, such as 2026-01-31T12:00:00Z; default: now",
    )
    block = commands.add_parser(
        "block",
        help="shut a user out, or let them in again",
        description="Shut a user out until the block is lifted. Their connections end within 5 s.",
    )
    block.add_argument("user", type=_user_id, metavar="USER", help="user id, the token's `sub`")
    block.add_argument("--lift", action="store_true", help="let the user in again")


async def operate(settings: Settings, options: argparse.Namespace) -> str:
    """Run one of these commands; returns what it did, for people. Raises: CommandFailed."""
    if options.command == "revoke" and options.jti and options.issued_before:
        raise WrongArguments("--issued-before goes with --user")
    url = settings.mongodb_url or running_mongodb_url(settings.data_dir)
    if url is None:
        raise CommandFailed(f"no Parley has run in DATA_DIR {settings.data_dir}: start one there, or set MONGODB_URL")
    mongo = Mongo(url, settings.mongodb_db)
    store = RevocationStore(mongo, _now)
    try:
        await mongo.check()
        return await (_revoke(store, options) if options.command == "revoke" else _block(store, options))
    except UnsuitableStore as error:
        if settings.mongodb_url is None:
            raise CommandFailed(
                f"no Parley runs in DATA_DIR {settings.data_dir}: start it, or set MONGODB_URL"
            ) from error
        raise CommandFailed(str(error)) from error
    except PyMongoError as error:
        raise CommandFailed(f"MongoDB did not take it ({type(error).__name__}); run the command again") from error
    finally:
        await store.close()
        await mongo.close()


async def _revoke(store: RevocationStore, options: argparse.Namespace) -> str:
    if options.jti:
        await store.revoke_token(options.jti)
        return f"revoked: the token {options.jti}"
    moment = options.issued_before or _now()
    await store.revoke_user(options.user, moment)
    return f"revoked: tokens of {options.user} issued before {iso_utc(moment)}"


async def _block(store: RevocationStore, options: argparse.Namespace) -> str:
    if not options.lift:
        await store.block_user(options.user)
        return f"blocked: {options.user}"
    if not await store.lift_block(options.user):
        raise CommandFailed(f"{options.user} is not blocked")
    return f"block lifted: {options.user}"


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _user_id(text: str) -> str:
    if re.fullmatch(USER_ID_PATTERN, text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no user id")
    return text


def _token_id(text: str) -> str:
    if not 0 < len(text) <= MAX_TOKEN_ID_LENGTH:
        raise argparse.ArgumentTypeError(f"a jti has 1 to {MAX_TOKEN_ID_LENGTH} characters")
    return text


def _past(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 time, such as 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; UTC is written with a Z at the end")
    if moment > _now():
        raise argparse.ArgumentTypeError(f"{text!r} lies in the future")
    return moment.astimezone(UTC)
