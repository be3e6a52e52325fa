"""The clients in C of the object and call benchmarks; the test is the server, and tells them what it likes."""

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import pytest
from headwater_rtmp import control
from headwater_rtmp.command import decode_command, encode_command
from headwater_rtmp.connection import Connection
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import Event, EventType, decode_shared_object, encode_shared_object

from bench import request_load
from bench.errors import BenchError
from bench.native_build import build
from bench.object_layout import ClientSpec
from bench.object_plan import ObjectPlan
from bench.object_wire import make_value, object_name, slot_name
from bench.request_load import RequestLoad, RequestWindow, call_load, object_load, ping_load
from bench.session import Target

WAIT_S = 30.0
WINDOW = 3
REQUESTER, LISTENER = ClientSpec(0, "room", (0,), 0), ClientSpec(0, "room", (0,))


class End:
    """The server's end of one client's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(WAIT_S)
        self._connection = Connection.server()
        self._heard: list[Message] = []

    def hear(self, kind: MessageType) -> Message:
        """The next message of this type."""
        while True:
            for number, message in enumerate(self._heard):
                if message.type_id == kind:
                    return self._heard.pop(number)
            self.read()

    def read(self) -> None:
        """What is there, or comes next; pings are answered."""
        data = self.sock.recv(65536)
        assert data, "the load hung up"
        self._connection.feed(data)
        while (event := self._connection.next_event()) is not None:
            if isinstance(event, Message):
                self._heard.append(event)
        self.sock.sendall(self._connection.data_to_send())

    def send(self, message: Message) -> None:
        self.sock.sendall(self._connection.send(message))

    def accept(self) -> None:
        """Answer its connect."""
        connect = decode_command(self.hear(MessageType.COMMAND_AMF0))
        assert connect.name == "connect"
        info = {"level": "status", "code": "NetConnection.Connect.Success"}
        self.send(encode_command("_result", connect.transaction_id, {}, info))

    def join(self, *objects: int, version: int = 0) -> None:
        """Answer its uses."""
        for number in objects:
            used = decode_shared_object(self.hear(MessageType.SHARED_OBJECT_AMF0))
            assert (used.name, used.persistent) == (object_name(number), True)
            assert [event.type for event in used.events] == [EventType.USE]
            old = Event(EventType.CHANGE, "old", make_value(7, 7))
            self.tell(version, Event(EventType.USE_SUCCESS), Event(EventType.CLEAR), old, number=number)

    def requests(self, count: int) -> list[list[Event]]:
        """So many messages of it."""
        return [decode_shared_object(self.hear(MessageType.SHARED_OBJECT_AMF0)).events for _ in range(count)]

    def tell(self, version: int, *events: Event, number: int = 0) -> None:
        """A SharedObject message."""
        self.send(encode_shared_object(object_name(number), version, True, list(events)))


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(request_load, "wait_for", lambda target, check: None)
    monkeypatch.setattr(request_load, "_OPENING", 1)
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(WAIT_S)
        yield made


def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def ends(listener: socket.socket, load: RequestLoad, objects: Sequence[Sequence[int]]) -> list[End]:
    """All clients, open, in their order; they use these objects."""
    load.tell_clients()
    made = []
    for used in objects:
        made.append(End(listener.accept()[0]))
        made[-1].accept()
        made[-1].join(*used)
    load.open(lambda opened: None, lambda: None)
    return made


@contextmanager
def members(
    listener: socket.socket, *clients: ClientSpec, batch: int = 1
) -> Iterator[tuple[RequestLoad, list[End]]]:
    """A load that runs, in a window that has begun, and the server's ends of its clients."""
    plan = ObjectPlan("127.0.0.1", (port(listener),), "live", list(clients), WINDOW, True, None)
    with object_load(plan, batch) as load:
        made = ends(listener, load, [client.objects for client in clients])
        load.begin()
        load.start(None)
        try:
            yield load, made
        finally:
            for end in made:
                end.sock.close()


def seen(load: RequestLoad) -> RequestWindow:
    load.end()
    return load.window()


def success(slot: int = 0, requester: int = 0) -> Event:
    return Event(EventType.SUCCESS, slot_name(requester, slot))


def change(number: int, slot: int = 0, requester: int = 0, sent_ns: int | None = None) -> Event:
    sent_ns = time.monotonic_ns() if sent_ns is None else sent_ns
    return Event(EventType.CHANGE, slot_name(requester, slot), make_value(number, sent_ns))


def test_a_requester_keeps_its_window_full(listener: socket.socket) -> None:
    with members(listener, REQUESTER) as (_, (end,)):
        first = end.requests(WINDOW)
        assert [event.key for events in first for event in events] == [slot_name(0, 0)] * WINDOW
        assert [int((events[0].value or b"")[3:11], 16) for events in first] == [1, 2, 3]
        end.tell(1, success(), success())
        assert [int((events[0].value or b"")[3:11], 16) for events in end.requests(2)] == [4, 5]


def test_a_message_changes_several_slots_to_one_value(listener: socket.socket) -> None:
    with members(listener, REQUESTER, batch=20) as (_, (end,)):
        (events,) = end.requests(1)
        assert [event.type for event in events] == [EventType.REQUEST_CHANGE] * 20
        assert [event.key for event in events] == [slot_name(0, slot) for slot in range(20)]
        assert len({event.value for event in events}) == 1


def test_what_came_is_counted(listener: socket.socket) -> None:
    with members(listener, REQUESTER, LISTENER, batch=2) as (load, (requester, listening)):
        requester.requests(WINDOW)
        # However they are joined: one event or several of them in a message, one commit or several.
        requester.tell(1, success(0), success(1))
        requester.tell(3, success(0), success(1), success(0), success(1))
        listening.tell(1, change(1, 0), change(1, 1))
        listening.tell(3, change(2, 0), change(2, 1), change(3, 0), change(3, 1))
        requester.requests(WINDOW)
        for number in range(WINDOW + 1, 2 * WINDOW + 1):
            requester.tell(number, success(0), success(1))
            listening.tell(number, change(number, 0), change(number, 1))
        requester.requests(WINDOW)
        for number in range(2 * WINDOW + 1, 3 * WINDOW + 1):
            listening.tell(number, change(number, 0), change(number, 1))
        load.end()
        for number in range(2 * WINDOW + 1, 3 * WINDOW + 1):
            requester.tell(number, success(0), success(1))
        window = load.window()
    assert window.faults == 0
    assert window.sent == window.answered + WINDOW
    assert window.latency.max_ms < WAIT_S * 1000


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([1, 3], {"missing": 1}),
        ([1, 1, 2, 3], {"disordered": 1}),
        ([2, 1, 3], {"missing": 1, "disordered": 1}),
        ([1, 2, 3, 4], {"strange": 1}),
    ],
)
def test_faults_are_seen(listener: socket.socket, numbers: list[int], fault: dict[str, int]) -> None:
    with members(listener, REQUESTER, LISTENER) as (load, (requester, listening)):
        requester.requests(WINDOW)
        load.end()
        for version, number in enumerate(numbers, 1):
            listening.tell(version, change(number))
        for version in range(1, WINDOW + 1):
            requester.tell(version, success())
        window = load.window()
    wanted = {"missing": 0, "disordered": 0, "strange": 0, "behind": 0, "unanswered": 0, "closed": 0, **fault}
    assert {name: getattr(window, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "event",
    [
        Event(EventType.CHANGE, "other", make_value(1, 1)),
        Event(EventType.CHANGE, slot_name(0, 0), b"\x05"),
        Event(EventType.CHANGE, slot_name(1, 0), make_value(1, 1)),
        Event(EventType.CHANGE, slot_name(0, 1), make_value(1, 1)),
        Event(EventType.SUCCESS, slot_name(0, 0)),
        Event(EventType.CLEAR),
    ],
)
def test_what_nobody_asked_for_is_strange(listener: socket.socket, event: Event) -> None:
    with members(listener, REQUESTER, LISTENER) as (load, (requester, listening)):
        requester.requests(WINDOW)
        load.end()
        listening.tell(1, event)
        listening.tell(3, *(change(number) for number in (1, 2, 3)))
        requester.tell(3, success(), success(), success())
        window = load.window()
    assert (window.strange, window.faults) == (1, 1)


def test_an_older_version_is_out_of_order(listener: socket.socket) -> None:
    with members(listener, REQUESTER, LISTENER) as (load, (requester, listening)):
        requester.requests(WINDOW)
        load.end()
        for version, number in ((5, 1), (4, 2), (6, 3)):
            listening.tell(version, change(number))
        requester.tell(3, success(), success(), success())
        assert load.window().disordered == 1


def test_members_of_several_objects_and_requesters(listener: socket.socket) -> None:
    other, both = ClientSpec(0, "room", (4321,), 1), ClientSpec(0, "room", (0, 4321))
    with members(listener, REQUESTER, other, both) as (load, (first, second, listening)):
        first.requests(WINDOW)
        second.requests(WINDOW)
        load.end()
        for number in (1, 2, 3):
            listening.tell(number, change(number, requester=1), number=4321)
            listening.tell(number, change(number))
        first.tell(3, success(), success(), success())
        second.tell(3, *[success(requester=1)] * 3, number=4321)
        assert load.window().faults == 0


def test_what_is_not_answered_and_who_is_closed_is_told(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_load, "_DRAIN_S", 0.0)
    with members(listener, REQUESTER, LISTENER) as (load, (requester, listening)):
        requester.requests(WINDOW)
        requester.tell(1, success())
        requester.requests(1)
        listening.sock.close()
        window = seen(load)
    assert (window.unanswered, window.closed, window.answered) == (WINDOW, 1, 1)


def test_a_last_value_that_does_not_come_is_told(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_load, "_DRAIN_S", 0.5)
    with members(listener, REQUESTER, LISTENER) as (load, (requester, listening)):
        requester.requests(WINDOW)
        load.end()
        listening.tell(2, change(1), change(2))
        requester.tell(3, success(), success(), success())
        window = load.window()
    assert (window.behind, window.missing, window.unanswered) == (1, 0, 0)


def test_a_rate_is_kept_without_answers(listener: socket.socket) -> None:
    with members(listener, REQUESTER) as (load, (end,)):
        end.requests(WINDOW)
        load.start(1000.0)
        assert len(end.requests(20)) == 20


def test_on_a_core_that_it_shares_it_gives_way() -> None:
    with RequestLoad([], [], WINDOW, min(os.sched_getaffinity(0))) as load:
        assert os.sched_getscheduler(load._program._process.pid) == os.SCHED_BATCH


def test_a_refused_object_ends_the_load(listener: socket.socket) -> None:
    plan = ObjectPlan("127.0.0.1", (port(listener),), "live", [REQUESTER], 1, True, None)
    with object_load(plan) as load:
        load.tell_clients()
        end = End(listener.accept()[0])
        end.accept()
        end.hear(MessageType.SHARED_OBJECT_AMF0)
        end.tell(0, Event(EventType.STATUS, code="SharedObject.NoReadAccess", level="error"))
        with pytest.raises(BenchError, match=r"client 1 of 1: SharedObject\.NoReadAccess"):
            load.open(lambda opened: None, lambda: None)
        end.sock.close()


def test_callers_call_and_compare_the_results(listener: socket.socket) -> None:
    target = Target("127.0.0.1", port(listener))
    with call_load(target, [port(listener)], "calls", "echo", 1, 1, WINDOW, None) as load:
        (end,) = ends(listener, load, [()])
        with end.sock:
            load.begin()
            load.start(None)
            calls = [decode_command(end.hear(MessageType.COMMAND_AMF0)) for _ in range(WINDOW)]
            assert {call.name for call in calls} == {"echo"}
            load.end()
            first, second, third = calls
            end.send(encode_command("_result", first.transaction_id, None, *first.args))
            end.send(encode_command("_result", second.transaction_id, None, *first.args))
            end.send(encode_command("_error", second.transaction_id, None, "no"))
            end.send(encode_command("_result", third.transaction_id, None, *third.args))
            window = load.window()
    assert (window.strange, window.missing, window.unanswered) == (2, 1, 0)


def test_pings_are_answered_in_their_order(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_load, "_DRAIN_S", 0.5)
    with ping_load(Target("127.0.0.1", port(listener)), "live", 1, None) as load:
        (end,) = ends(listener, load, [()])
        with end.sock:
            load.begin()
            load.start(None)
            for _ in range(20):
                end.read()
            end.send(control.ping_response(1))
            window = seen(load)
    assert (window.disordered, window.missing, window.strange) == (1, 0, 0)
    assert window.answered >= 19


def test_more_pings_than_are_remembered_are_an_error(listener: socket.socket) -> None:
    pingers = [("pinger", "127.0.0.1", port(listener), "live")]
    with RequestLoad([], pingers, 5000, None) as load:
        (end,) = ends(listener, load, [()])
        with end.sock:
            load.start(None)
            with pytest.raises(BenchError, match="more pings are unanswered than it remembers"):
                load.window()


def test_a_client_that_an_order_closes_is_closed_once(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is ready in the same turn: what is said of it then is old."""
    monkeypatch.setattr(request_load, "_DRAIN_S", 0.5)
    with members(listener, REQUESTER, LISTENER) as (load, (requester, listening)):
        requester.requests(WINDOW)
        program = next(each for each in psutil.Process().children() if each.name() == "object_load")
        program.suspend()
        load.start(None)  # Everyone acknowledges, and that is when the load finds the listener gone.
        listening.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        listening.sock.close()
        program.resume()
        window = seen(load)
    assert window.closed == 1


def test_the_programs_compile() -> None:
    assert build("object_load").is_file()
