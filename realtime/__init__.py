"""A Socket.IO server on seams of python-socketio and aiohttp; it knows sockets and rooms, nothing of chat."""

from realtime.create import create_server
from realtime.limits import Limits
from realtime.server import Server

__all__ = ["Limits", "Server", "create_server"]
