"""The machine that figures were taken on: without its name they mean nothing."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("python-socketio", "aiohttp", "uvloop", "motor", "pymongo", "redis", "orjson")


def describe_machine() -> list[str]:
    """Processor, memory, system and versions, one fact or group of facts a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return [
        f"{_processor()}, {cores} of {os.cpu_count()} cores, {memory:.0f} GiB of memory",
        f"{_system()}, Linux {platform.release()}, Python {platform.python_version()}",
        ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    ]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
