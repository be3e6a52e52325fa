"""A server's end of a connection that goes on in another process: dump and load at any point are not noticed."""

import msgpack
import pytest
from headwater_rtmp.command import encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.control import set_chunk_size
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message
from hypothesis import given
from hypothesis import strategies as st

MESSAGES = st.one_of(
    st.builds(
        Message, st.sampled_from((8, 9, 18)), st.just(1), st.integers(0, 2**32 - 1), st.binary(max_size=900)
    ),
    st.builds(lambda size: set_chunk_size(size), st.integers(128, 4000)),
    st.builds(lambda name: encode_command(name, 1.0), st.text(max_size=8)),
    st.just(Message(5, 0, 0, (4096).to_bytes(4, "big"))),
)
AGGREGATE = Message(
    22,
    1,
    40,
    b"".join(
        bytes((8, 0, 0, 2)) + at.to_bytes(3, "big") + bytes(4) + bytes((at, at)) + (13).to_bytes(4, "big")
        for at in (1, 2, 3)
    ),
)


def moved(connection: Connection) -> Connection:
    """As another process has it."""
    return Connection.load(msgpack.unpackb(msgpack.packb(connection.dump())))


def stream(messages: list[Message]) -> tuple[bytes, bytes]:
    """What a client sends: its handshake without C2, and all behind it."""
    client = Connection.client()
    first = client.data_to_send()
    server = Connection.server()
    server.feed(first)
    client.feed(server.data_to_send())
    rest = client.data_to_send()
    return first, rest + b"".join(client.send(message) for message in messages)


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(0, 9000), max_size=12), st.booleans())
def test_a_connection_goes_on_from_its_dump_at_any_cut(
    messages: list[Message], cuts: list[int], aggregate: bool
) -> None:
    first, rest = stream([*messages, AGGREGATE] if aggregate else messages)
    whole, parts = Connection.server(), Connection.server()
    whole.feed(first)
    parts.feed(first)
    # What a server says first is random.
    parts = Connection.load(whole.dump())
    answers = [whole.data_to_send(), parts.data_to_send()]
    assert answers[0] == answers[1]
    whole.feed(rest)
    expected = []
    while (event := whole.next_event()) is not None:
        expected.append(event)
    got = []
    at = 0
    for cut in sorted({cut % (len(rest) + 1) for cut in cuts} | {len(rest)}):
        parts.feed(rest[at:cut])
        at = cut
        parts = moved(parts)
        while (event := parts.next_event()) is not None:
            got.append(event)
            parts = moved(parts)
    assert got == expected
    assert parts.data_to_send() == whole.data_to_send()
    assert parts.received_bytes == whole.received_bytes


def test_a_dead_connection_has_no_dump() -> None:
    server = Connection.server()
    with pytest.raises(RemoteProtocolError):
        server.feed(b"\x06")
    with pytest.raises(LocalProtocolError):
        server.dump()


@pytest.mark.parametrize(
    "dump", [[], [1], [None] * 13, [[], None, [], None, False, None, 0, 0, 0, 0, 0, 0, 0]]
)
def test_what_is_no_dump_is_refused(dump: list[object]) -> None:
    with pytest.raises(ValueError, match="expected what dump"):
        Connection.load(dump)
