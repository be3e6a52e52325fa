"""Requests and answers over real sockets: bad input, pushes, timeouts and closing."""

from collections.abc import Iterator
from typing import Any

import gevent
import msgpack
import pytest
import zmq.green as zmq
from headwater_bus.control import (
    Changed,
    Done,
    Grants,
    Health,
    HealthRequest,
    Leave,
    Refused,
    Release,
    Renew,
    Snapshot,
    Subscribe,
)
from headwater_bus.requests import BindError, RefusedError, Requester, RequestError, RequestServer, ask
from headwater_bus.security import Security, SecurityError
from support.waiting import TIME_FACTOR, eventually

PLAIN = Security.plain()
ANSWER_S = 10.0 * TIME_FACTOR


class Server:
    def __init__(self, context: Any) -> None:
        self.callers: list[Any] = []
        self.server = RequestServer(
            context,
            PLAIN,
            {
                HealthRequest: lambda caller, message: Health({"ok": True}),
                Release: self._later,
                Leave: self._fail,
                Grants: lambda caller, message: Refused("no", "not today"),
                Renew: lambda caller, message: Health({"no form": object()}),
                Subscribe: self._subscribe,
            },
        )
        self.endpoint = self.server.bind("tcp://127.0.0.1:*")
        self._jobs = [gevent.spawn(job) for _, job in self.server.jobs()]

    def _later(self, caller: Any, message: Release) -> None:
        self.callers.append(caller)

    def _fail(self, caller: Any, message: Leave) -> None:
        raise KeyError("a bug")

    def _subscribe(self, caller: Any, message: Subscribe) -> Snapshot:
        self.callers.append(caller)
        self.server.push([caller.identity], Changed("f", 1, []))

        def push_more() -> None:
            for n in (2, 3):
                self.server.push([caller.identity], Changed("f", n, []))

        # What is sent behind the answer must be seen behind it.
        gevent.spawn(push_more)
        return Snapshot("f", 1, [], [])

    def close(self) -> None:
        self.server.close()
        gevent.killall(self._jobs)


@pytest.fixture
def server(context: Any) -> Iterator[Server]:
    made = Server(context)
    yield made
    made.close()


@pytest.fixture
def requester(context: Any, server: Server) -> Iterator[Requester]:
    made = Requester(context, PLAIN, server.endpoint, "")
    yield made
    made.close()


def test_answers_find_who_asked_in_any_order(requester: Requester, server: Server) -> None:
    waiting = [gevent.spawn(requester.request, Release(f"g{n}", n), ANSWER_S) for n in range(3)]
    eventually(lambda: len(server.callers) == 3, within_s=5)
    assert requester.request(HealthRequest(), ANSWER_S) == Health({"ok": True})
    for number, caller in reversed(list(enumerate(server.callers))):
        server.server.answer(caller, Refused("n", str(number)))
    assert [greenlet.get().text for greenlet in waiting] == ["0", "1", "2"]


def test_what_fails_in_a_handler_is_refused_and_the_server_lives(
    requester: Requester, server: Server
) -> None:
    assert requester.request(Leave("a", "b"), ANSWER_S) == Refused("internal", "Leave: internal error")
    unpackable = requester.request(Renew("a", "b"), ANSWER_S)
    assert unpackable.code == "internal"
    assert requester.request(Done(), ANSWER_S).code == "unknown-kind"
    assert requester.request(HealthRequest(), ANSWER_S) == Health({"ok": True})


GARBAGE = [
    [b"\xc1"],
    [b"", b""],
    [msgpack.packb([1])],
    [msgpack.packb(["x"]), b"\x90"],
    [msgpack.packb([1]), msgpack.packb([[122], [122]])],
    [msgpack.packb([1]), msgpack.packb([[100, 1, 2, 3, 4, 5]])],
    [msgpack.packb([1]), b"\x91\x92\x7b\x81\x91\x01\x02"],
    [msgpack.packb([1]), msgpack.packb([[999, 1]])],
    [msgpack.packb([2**64 - 1]), msgpack.packb([[122]])],
]


def test_garbage_is_answered_and_counted(context: Any, server: Server, requester: Requester) -> None:
    stranger = context.socket(zmq.DEALER)
    stranger.connect(server.endpoint)
    for frames in GARBAGE:
        stranger.send_multipart(frames)
    for _ in GARBAGE:
        with gevent.Timeout(ANSWER_S):
            stranger.recv_multipart()
    assert server.server.refused == len(GARBAGE) - 1
    assert requester.request(HealthRequest(), ANSWER_S) == Health({"ok": True})
    stranger.close(linger=0)


def test_no_answer_is_a_clear_error(requester: Requester, server: Server) -> None:
    with pytest.raises(RequestError, match=r"Release: no answer from tcp://127.0.0.1:\d+ within 0.05 s"):
        requester.request(Release("g", 1), 0.05)
    # The answer that comes too late goes to nobody.
    server.server.answer(server.callers[0], Done())
    assert requester.request(HealthRequest(), ANSWER_S) == Health({"ok": True})


def test_a_closed_requester_lets_nobody_wait(context: Any, server: Server) -> None:
    requester = Requester(context, PLAIN, server.endpoint, "")
    waiting = gevent.spawn(_outcome, requester)
    eventually(lambda: server.callers, within_s=5)
    requester.close()
    requester.close()
    assert "was closed" in waiting.get(timeout=5)
    with pytest.raises(RequestError, match="was closed"):
        requester.request(HealthRequest(), 1)


def _outcome(requester: Requester) -> str:
    try:
        return str(requester.request(Release("g", 1), 600))
    except RequestError as error:
        return str(error)


def test_a_snapshot_is_taken_before_the_changes_behind_it(context: Any, server: Server) -> None:
    order: list[Any] = []
    requester = Requester(
        context, PLAIN, server.endpoint, "", on_push=lambda change: order.append(change.seq)
    )
    requester.request(Subscribe("me"), ANSWER_S, then=lambda snapshot: order.append("snapshot"))
    eventually(lambda: len(order) == 4, within_s=5)
    assert order == [1, "snapshot", 2, 3]
    requester.close()


def test_a_push_that_cannot_be_taken_ends_nothing(context: Any, server: Server) -> None:
    def fail(change: Any) -> None:
        raise KeyError("a bug")

    requester = Requester(context, PLAIN, server.endpoint, "", on_push=fail)
    requester.request(Subscribe("me"), ANSWER_S)
    assert requester.request(HealthRequest(), ANSWER_S) == Health({"ok": True})
    requester.close()


def test_ask_raises_what_was_refused(context: Any, server: Server) -> None:
    with pytest.raises(RefusedError, match="not today") as caught:
        ask(context, PLAIN, server.endpoint, "", Grants([["g", "origin-1"]]))
    assert caught.value.code == "no"
    with pytest.raises(RequestError, match="no answer"):
        ask(context, PLAIN, "tcp://127.0.0.1:1", "", HealthRequest(), timeout_s=0.05)
    with pytest.raises(RequestError, match="no endpoint"):
        ask(context, PLAIN, "ipc:", "", HealthRequest(), timeout_s=0.05)
    with pytest.raises(SecurityError, match="unencrypted"):
        ask(context, PLAIN, "tcp://example.org:1", "", HealthRequest(), timeout_s=0.05)


def test_a_bind_in_use_is_one_clear_error(context: Any, server: Server) -> None:
    second = RequestServer(context, PLAIN, {})
    with pytest.raises(BindError, match="cannot listen there: Address already in use"):
        second.bind(server.endpoint)
    second.close()
