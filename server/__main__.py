"""The command line: `python -m server` serves, other commands print a token or act on the database."""

import argparse
import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence

import structlog
import uvloop
from aiohttp import web

from auth.tokens import SCOPES
from realtime.server import Server
from server.embedded import EmbeddedServers
from server.operator import OPERATOR_COMMANDS, CommandFailed, add_operator_commands, operate
from server.processes import EmbeddedError
from server.settings import Settings, SettingsError, load_settings
from server.signing import DEVELOPMENT_USERS, TOKEN_TTL_SECONDS, sign_token
from server.telemetry import configure_logging
from storage.mongo import UnsuitableStore

LISTEN_BACKLOG = 4096
"""With 128 a burst of connects became ten times slower: the kernel drops what does not fit and clients wait 1 s."""
SHUTDOWN_SECONDS = 10.0
"""How long requests under way may take to end when the server stops."""

CLEANUP_SECONDS = 20.0
"""How long the whole application may take to close; the stores are stopped afterwards in any case."""

_START_FAILED = 1
_BAD_SETTINGS = 2

_log = structlog.get_logger("server")


class StartError(Exception):
    """The server cannot listen; the message says why, for people."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit status is 0, 1 when it failed, 2 when the settings or the arguments are wrong."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(os.environ)
        if options.command == "token":
            print(sign_token(settings, options.user, options.scope or ["user"], options.ttl, options.name))
            return 0
    except (SettingsError, ValueError) as error:
        return _fail(error, _BAD_SETTINGS)
    if options.command in OPERATOR_COMMANDS:
        return _operate(settings, options)
    configure_logging(settings.log_level, settings.environment)
    _raise_open_files_limit()
    try:
        uvloop.run(_serve_until_signalled(settings))
    except (EmbeddedError, StartError, UnsuitableStore) as error:
        return _fail(error, _START_FAILED)
    except SettingsError as error:
        return _fail(error, _BAD_SETTINGS)
    return 0


def _operate(settings: Settings, options: argparse.Namespace) -> int:
    """One change of the database, from beside the running servers."""
    try:
        print(uvloop.run(operate(settings, options)))
    except CommandFailed as error:
        return _fail(error, error.status)
    return 0


async def _serve_until_signalled(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then stop in order; a second signal ends the process on the spot."""
    serving = asyncio.create_task(_serve(settings), name="serve")

    def stop(signum: int) -> None:
        if serving.cancelling():
            os._exit(128 + signum)  # the embedded servers die with us; what they have acknowledged is in their journals
        _log.info("stopping", signal=signal.Signals(signum).name)
        serving.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop, signum)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(settings: Settings) -> None:
    """Stores first, then the application, then the port; on cancellation back in the opposite order."""
    from server.app import SOCKETS, create_app

    embedded = EmbeddedServers(settings.data_dir, mongodb=not settings.mongodb_url, redis=not settings.redis_url)
    await embedded.start()
    try:
        app = create_app(
            settings,
            mongodb_url=settings.mongodb_url or embedded.mongodb_url,
            redis_url=settings.redis_url or embedded.redis_url,
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            listening = await _listen(app[SOCKETS], runner, settings)
            host, port = listening.sockets[0].getsockname()[:2]
            _log.info("listening", host=host, port=port)
            if settings.environment == "development":
                print(_banner(settings, port), flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                listening.close()
        finally:
            await _clean_up(runner)
    finally:
        await embedded.stop()


async def _clean_up(runner: web.AppRunner) -> None:
    """Stop accepting, let requests end, close the application."""
    try:
        async with asyncio.timeout(CLEANUP_SECONDS):
            await runner.cleanup()
    except TimeoutError:
        _log.error("the application did not close in time", seconds=CLEANUP_SECONDS)


async def _listen(sockets: Server, runner: web.AppRunner, settings: Settings) -> asyncio.Server:
    """Raises StartError."""
    try:
        return await sockets.listen(runner, settings.host, settings.port, backlog=LISTEN_BACKLOG)
    except socket.gaierror as error:
        raise StartError(f"HOST {settings.host} is not an address of this machine: {error.strerror}") from error
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "is in use: stop the other program, or set PORT to another one (0 for any)",
            errno.EACCES: "is not for this user: set PORT to 1024 or more",
            errno.EADDRNOTAVAIL: "is not an address of this machine: set HOST",
        }
        reason = reasons.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
        raise StartError(f"{settings.host} port {settings.port} {reason}") from error


def _banner(settings: Settings, port: int) -> str:
    """What someone needs to begin, in development: where the page is, who to be, and where the data lies."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    lines = [f"Parley serves on http://{host}:{port}/ (Ctrl-C stops it)", ""]
    if settings.jwt_secret:
        lines += [f"  token of {user:<6} {sign_token(settings, user)}" for user in DEVELOPMENT_USERS]
        lines.append("")
    for store, url in (("MongoDB", settings.mongodb_url), ("Redis", settings.redis_url)):
        lines.append(f"  {store:<8} {'yours' if url else f'embedded, data in {settings.data_dir.resolve()}'}")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    variables = "\n".join(f"  {name.upper():<18} {field.description}" for name, field in Settings.model_fields.items())
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="Parley, a Socket.IO messaging server. Without a command it serves.",
        epilog=f"environment variables:\n{variables}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    token = commands.add_parser(
        "token",
        help="print a token for a user",
        description="Print a token signed with JWT_SECRET, or with the secret that development makes in DATA_DIR.",
    )
    token.add_argument("user", metavar="USER", help="user id, the token's `sub`")
    token.add_argument("--scope", action="append", choices=sorted(SCOPES), help="default: user; may be repeated")
    token.add_argument(
        "--ttl",
        type=_seconds,
        default=TOKEN_TTL_SECONDS,
        metavar="SECONDS",
        help="how long it is valid; default: 7 days",
    )
    token.add_argument("--name", help="display name")
    add_operator_commands(commands)
    return parser


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10**10:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)


def _raise_open_files_limit() -> None:
    """Each connection is an open file, and the soft limit of a shell is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fail(error: Exception, status: int) -> int:
    print(f"parley: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
