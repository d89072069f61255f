"""A Socket.IO server on seams of python-socketio and aiohttp; it knows sockets and rooms, nothing of chat."""

from realtime.limits import Limits
from realtime.server import Server, create_server

__all__ = ["Limits", "Server", "create_server"]
