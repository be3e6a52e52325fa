"""A pair of connections without sockets: control messages, acknowledgements, aggregates, death."""

import struct

import pytest
from headwater_rtmp import control
from headwater_rtmp.chunk import ChunkReader, encode_message
from headwater_rtmp.connection import (
    Acknowledged,
    BufferLengthSet,
    Connection,
    Event,
    HandshakeCompleted,
    PongReceived,
    transfer,
)
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.message import Message


def pair(digest: bool = False, window_ack_size: int = 2_500_000) -> tuple[Connection, Connection]:
    client = Connection.client(digest, window_ack_size=window_ack_size)
    server = Connection.server(window_ack_size=window_ack_size)
    transfer(client, server)
    scheme = 0 if digest else None
    assert events(client) == events(server) == [HandshakeCompleted(scheme)]
    return client, server


def events(connection: Connection, now: float = 0.0) -> list[Event]:
    found = []
    while (event := connection.next_event(now)) is not None:
        found.append(event)
    return found


def told(receiver: Connection, data: bytes, now: float = 0.0) -> list[Event]:
    receiver.feed(data)
    return events(receiver, now)


@pytest.mark.parametrize("digest", [False, True])
def test_messages_both_ways(digest: bool) -> None:
    client, server = pair(digest)
    messages = [Message(20, 0, 0, b"c" * 500), Message(9, 1, 40, b"v" * 3000), Message(9, 1, 80, b"v" * 3000)]
    assert told(server, b"".join(client.send(message) for message in messages)) == messages
    assert told(client, b"".join(server.send(message) for message in messages)) == messages


def test_messages_right_behind_c2() -> None:
    client, server = Connection.client(), Connection.server()
    server.feed(client.data_to_send())
    client.feed(server.data_to_send())
    message = Message(20, 0, 0, b"connect")
    assert told(server, client.data_to_send() + client.send(message)) == [HandshakeCompleted(), message]


def test_the_handshake_goes_before_the_first_message() -> None:
    client, server = Connection.client(), Connection.server()
    message = Message(20, 0, 0, b"connect")
    server.feed(client.data_to_send())
    client.feed(server.data_to_send())
    assert told(server, client.send(message)) == [HandshakeCompleted(), message]
    assert client.data_to_send() == b""
    hasty = Connection.server()  # C2 and a ping right behind C1, and an answer before data_to_send.
    hasty.feed(b"\3" + bytes(1536 * 2) + encode_message(control.ping_request(7), 2, 128))
    assert events(hasty) == [HandshakeCompleted()]
    sent = hasty.send(message)
    assert (sent[0], len(sent)) == (3, 1 + 1536 * 2 + 18 + 12 + 7)


def test_send_needs_the_handshake() -> None:
    assert not Connection.server().handshaken
    assert all(end.handshaken for end in pair())
    with pytest.raises(LocalProtocolError, match="before the handshake is done"):
        Connection.server().send(control.stream_begin(1))


def test_chunk_size_is_announced_and_used() -> None:
    client, server = pair()
    message = Message(9, 1, 0, bytes(5000))
    data = server.send_chunk_size(60_000) + server.send(message)
    assert len(data) == 16 + 12 + 5000
    assert told(client, data) == [message]
    assert (server.chunk_size, client.chunk_size) == (60_000, 128)
    with pytest.raises(LocalProtocolError, match="chunk size 0"):
        server.send_chunk_size(0)


def test_a_server_s_greeting_tells_windows_and_chunk_size() -> None:
    client, server = pair(window_ack_size=10_000)
    message = Message(9, 1, 0, bytes(5000))
    data = server.send_greeting(60_000) + server.send(message)
    assert len(data) == 16 + 17 + 16 + 12 + 5000
    assert told(client, data) == [message]
    assert (server.chunk_size, client.peer_bandwidth) == (60_000, 10_000)
    told(client, server.send(Message(9, 1, 0, bytes(5000))))
    assert told(server, client.data_to_send()) == [Acknowledged(client.received_bytes)]


def test_a_greeting_follows_the_handshake() -> None:
    with pytest.raises(LocalProtocolError, match="before the handshake is done"):
        Connection.server().send_greeting(4096)
    hasty = Connection.server()
    hasty.feed(b"\3" + bytes(1536 * 2))
    assert events(hasty) == [HandshakeCompleted()]
    assert len(hasty.send_greeting(4096)) == 1 + 1536 * 2 + 16 + 17 + 16


def test_ping_is_answered_and_timed() -> None:
    client, server = pair()
    assert told(client, server.send_ping(12.5)) == []
    assert told(server, client.data_to_send(), now=12.75) == [PongReceived(12_500, 250)]


def test_acknowledgements_follow_the_window() -> None:
    client, server = pair(window_ack_size=10_000)
    assert told(client, server.send_greeting(60_000)) == []
    told(client, server.send(Message(9, 1, 0, bytes(10_000))))
    got = told(server, client.data_to_send())
    assert got == [Acknowledged(client.received_bytes)]
    assert server.peer_acknowledged == client.received_bytes
    assert client.data_to_send() == b""


def test_a_window_of_nothing_is_ignored_and_a_tiny_one_widened() -> None:
    client, server = pair()
    told(
        server,
        client.send(control.window_acknowledgement_size(0)) + client.send(Message(8, 1, 0, bytes(9000))),
    )
    assert server.data_to_send() == b""
    told(server, client.send(control.window_acknowledgement_size(1)))
    assert server.data_to_send() != b""
    told(server, client.send(Message(8, 1, 0, bytes(100))))
    assert server.data_to_send() == b""


@pytest.mark.parametrize(
    ("limits", "announced"),
    [
        ([(5000, 0)], [5000]),
        ([(5000, 0), (5000, 2)], [5000]),
        ([(5000, 0), (9000, 1)], [5000]),
        ([(5000, 0), (3000, 1)], [5000, 3000]),
        ([(0, 2)], []),
        ([(5000, 7)], [5000]),
    ],
)
def test_peer_bandwidth_is_answered_with_the_window(
    limits: list[tuple[int, int]], announced: list[int]
) -> None:
    # RTMP 1.0, 5.4.5: "if the window size is different from the last one sent".
    client, server = pair()
    told(client, b"".join(server.send(control.set_peer_bandwidth(size, limit)) for size, limit in limits))
    reader = ChunkReader()
    reader.feed(client.data_to_send())
    answers = []
    while (message := reader.next_message()) is not None:
        answers.append(message)
    assert answers == [control.window_acknowledgement_size(size) for size in announced]


def test_user_control_events() -> None:
    client, server = pair()
    assert told(server, client.send(control.set_buffer_length(1, 3000))) == [BufferLengthSet(1, 3000)]
    assert told(client, server.send(control.stream_begin(1))) == [
        control.UserControlEvent(0, 1, 0, b"\0\0\0\1")
    ]
    unknown = Message(4, 0, 0, b"\x00\x63\x01")
    assert told(client, server.send(unknown)) == [control.UserControlEvent(99, 0, 0, b"\x01")]
    request = Message(4, 0, 0, b"\x00\x1a")
    assert told(client, server.send(request)) == [control.UserControlEvent(26)]


def flv(type_id: int, timestamp: int, body: bytes, back: bool = True) -> bytes:
    head = bytes((type_id,)) + len(body).to_bytes(3, "big")
    stamp = (timestamp & 0xFFFFFF).to_bytes(3, "big") + bytes((timestamp >> 24,))
    return head + stamp + bytes(3) + body + (struct.pack(">I", 11 + len(body)) if back else b"")


def test_aggregate_comes_as_its_messages() -> None:
    # RTMP 1.0, 7.1.6: the aggregate's stream id and time win; the distance between the messages stays.
    client, server = pair()
    body = flv(8, 0x02000000, b"a") + flv(9, 0x0200000A, b"") + flv(18, 0x0200000B, b"d", back=False)
    after = Message(20, 0, 0, b"after")
    got = told(server, client.send(Message(22, 5, 0xFFFFFFFA, body)) + client.send(after))
    assert got == [Message(8, 5, 0xFFFFFFFA, b"a"), Message(9, 5, 4, b""), Message(18, 5, 5, b"d"), after]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (flv(22, 0, b"x"), "message type 22 at offset 0"),
        (flv(1, 0, bytes(4)), "message type 1 at offset 0"),
        (flv(8, 0, b"a") + flv(20, 0, b""), "message type 20 at offset 16"),
        (flv(8, 0, bytes(9))[:-10], "3 bytes left at offset 11, expected a message of 9"),
        (flv(8, 0, b"a") + b"\x08\0", "2 bytes at offset 16, expected a header of 11"),
    ],
)
def test_aggregate_that_does_not_fit(body: bytes, text: str) -> None:
    client, server = pair()
    with pytest.raises(RemoteProtocolError, match=text):
        told(server, client.send(Message(22, 1, 0, body)))


def test_dead_after_an_error() -> None:
    client, server = pair()
    good = client.send(Message(20, 0, 0, b"x" * 300))
    with pytest.raises(RemoteProtocolError, match="csid 5"):
        told(server, good + b"\xc5" + bytes(1000))
    assert server.held_bytes == 0
    with pytest.raises(LocalProtocolError, match="the connection is dead: csid 5"):
        server.feed(good)
    with pytest.raises(LocalProtocolError):
        server.next_event()
    with pytest.raises(LocalProtocolError):
        server.send(control.stream_begin(1))
    assert server.data_to_send() == b""


def test_a_wrong_version_kills() -> None:
    server = Connection.server()
    with pytest.raises(RemoteProtocolError, match="RTMP version 71"):
        server.feed(b"GET / HTTP/1.1\r\n")
    with pytest.raises(LocalProtocolError, match="dead"):
        server.feed(b"x")


def test_strangers_may_send_less() -> None:
    client, server = pair()
    big = client.send(Message(9, 1, 0, bytes(70_000)))
    with pytest.raises(RemoteProtocolError, match="70000 bytes, expected at most 65536"):
        told(server, big)
    client, server = pair()
    server.connected()
    assert len(told(server, client.send(Message(9, 1, 0, bytes(70_000))))) == 1


@pytest.mark.parametrize(
    ("type_id", "payload"), [(0, b"xxxx"), (3, b"abc"), (4, b"\0"), (4, b"\0\6\0"), (5, b""), (6, b"\0\0\0")]
)
def test_control_messages_too_short(type_id: int, payload: bytes) -> None:
    client, server = pair()
    with pytest.raises(RemoteProtocolError):
        told(server, client.send(Message(type_id, 0, 0, payload)))
