"""Binary packets, put together from their text and the attachments that follow it."""

from typing import Generic, TypeVar

from realtime.packets import Incoming, MalformedPacket, reconstruct

Connection = TypeVar("Connection")


class Assembly(Generic[Connection]):
    """What has come so far of each connection's binary packet. Attachments follow their text, with nothing between."""

    def __init__(self) -> None:
        self._partial: dict[Connection, tuple[Incoming, list[bytes]]] = {}

    def text(self, connection: Connection, incoming: Incoming) -> Incoming | None:
        """Take a text packet; None when its attachments are still to come. Raises: MalformedPacket."""
        if connection in self._partial:
            raise MalformedPacket("text in the middle of attachments")
        if not incoming.attachments:
            return incoming
        self._partial[connection] = incoming, []
        return None

    def attachment(self, connection: Connection, attachment: bytes) -> Incoming | None:
        """Take an attachment; the packet, when it was the last one. Raises: MalformedPacket."""
        if connection not in self._partial:
            raise MalformedPacket("unexpected attachment")
        incoming, attachments = self._partial[connection]
        attachments.append(attachment)
        if len(attachments) < incoming.attachments:
            return None
        del self._partial[connection]
        return incoming._replace(data=reconstruct(incoming.data, attachments))

    def forget(self, connection: Connection) -> None:
        """The connection has gone."""
        self._partial.pop(connection, None)
