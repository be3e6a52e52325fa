"""An application that notes its hooks, and readings of what a client that connects is told."""

from typing import Any

from gevent.event import Event
from headwater_bus.traffic import CloseSession, ToClient
from headwater_origin import Application, Client
from headwater_rtmp.command import decode_command
from headwater_rtmp.message import Message

OPEN = {"app": Application}


def raw_command(envelope: ToClient) -> Any:
    return decode_command(Message(envelope.type_id, envelope.stream_id, 0, envelope.payload))


def refused_with(told: list[Any]) -> str:
    """The code of `_error`, which must be followed by CloseSession and by nothing else."""
    assert [type(part) for part in told] == [tuple, CloseSession]
    assert told[0][:2] == ("_error", 1.0)
    assert told[0][2]["level"] == "error"
    return str(told[0][2]["code"])


class Noting(Application):
    """Notes every hook."""

    log: list[tuple[Any, ...]] = []  # noqa: RUF012
    gate: Event | None = None

    def on_start(self) -> None:
        self.note("on_start")
        if self.gate is not None:
            self.gate.wait()

    def on_stop(self) -> None:
        self.note("on_stop")

    def on_connect(self, client: Client, *args: Any) -> None:
        self.note("on_connect", *args)

    def on_disconnect(self, client: Client) -> None:
        self.note("on_disconnect")

    def note(self, *what: Any) -> None:
        type(self).log.append(what)
