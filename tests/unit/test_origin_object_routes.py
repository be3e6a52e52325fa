"""The origin: clients of a scope whose SharedObjects are groups of their own: what the home sends on, and what the group of an
object does with it. No sockets."""

from typing import Any

import pytest
from gevent.event import Event as Gate
from headwater_bus.object_traffic import ObjectAnswer, ObjectJoined, ObjectLeft, ObjectOpened, ObjectUpdate
from headwater_bus.traffic import Attached, FromClient, FromGuest, GuestIdle, Routed, ToClient, Unrouted
from headwater_origin import Access, Application, Client, Reject
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import decode_shared_object
from hypothesis import given, settings
from hypothesis import strategies as st
from support.object_bench import CLEAR, DELETE, NO_WRITE, RELEASE, SEND, SET, USE, guest_attach
from support.origin_bench import Bench, FakeClient, FakeLink, plain, plain_event, settle

ALL = int(Access.ALL)


class Spread(Application):
    shared_objects = "spread"
    allow_shared_objects = True

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        if name == "secret":
            raise Reject("no")
        return Access.READ if name == "shown" else Access.ALL


class Checked(Spread):
    def shared_object_write(
        self, client: Client, name: str, persistent: bool, key: str, value: Any
    ) -> bool | None:
        return bool(value != 13.0)

    def shared_object_send(
        self, client: Client, name: str, persistent: bool, handler: str, *args: Any
    ) -> bool | None:
        return (handler, args) != ("shout", (1.0,))


@pytest.fixture
def bench() -> Bench:
    return Bench({"app": Spread, "checked": Checked})


def connected(bench: Bench, link: FakeLink, group: str = "app/room") -> FakeClient:
    client = bench.client(link, group)
    settle()
    assert Attached(client.number, 0, True) in client.take()
    return client


def events(routed: Routed) -> list[tuple[Any, ...]]:
    message = Message(routed.type_id, 0, 0, routed.payload)
    return [plain_event(event) for event in decode_shared_object(message).events]


def test_a_use_goes_to_the_objects_group_and_later_messages_straight(bench: Bench) -> None:
    link = bench.edge()
    client = connected(bench, link)
    client.shared("board", (USE,), (SET, "x", 1.0))
    settle()
    (routed,) = link.take()
    assert (routed.session, routed.group, routed.route, routed.access, routed.denied) == (
        client.number,
        "app/room#so:board",
        1,
        ALL,
        [],
    )
    assert events(routed) == [("USE",), ("REQUEST_CHANGE", "x", 1.0)]
    assert client.scope._group.objects.routes.users("board", False) == 1
    # One that was on its way when the edge heard of it.
    client.shared("board", (SET, "x", 2.0))
    settle()
    (routed,) = link.take()
    assert routed.route == 1
    client.shared("board", (SET, "x", 2.0), (RELEASE,))
    settle()
    (routed,) = link.take()
    assert (routed.route, events(routed)) == (2, [("REQUEST_CHANGE", "x", 2.0), ("RELEASE",)])
    assert client.scope._group.objects.routes.users("board", False) == 0


def test_what_is_not_used_is_answered_here(bench: Bench) -> None:
    link = bench.edge()
    client = connected(bench, link)
    client.shared("board", (SET, "x", 1.0), (DELETE, "y"))
    settle()
    assert [plain(told) for told in link.take()] == [
        ("object", "board", 0, [NO_WRITE, ("REMOVE", "x"), ("REMOVE", "y")]),
        Unrouted(client.number, "board", False),
    ]
    client.shared("board", (RELEASE,))
    settle()
    assert link.take() == [Unrouted(client.number, "board", False)]


def test_what_is_astray_is_answered_before_the_rest_is_sent_on(bench: Bench) -> None:
    link = bench.edge()
    client = connected(bench, link)
    client.shared("board", (SET, "x", 1.0), (USE,), (SET, "y", 1.0), (RELEASE,), (SET, "z", 1.0), (USE,))
    settle()
    told, routed = link.take()
    assert plain(told)[3] == [NO_WRITE, ("REMOVE", "x"), ("REMOVE", "z")]
    assert events(routed) == [("USE",), ("REQUEST_CHANGE", "y", 1.0), ("RELEASE",), ("USE",)]
    assert routed.route == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [("secret", "ObjectCreationFailed"), ("a*", "ObjectCreationFailed"), ("", "ObjectCreationFailed")],
)
def test_refused_uses_are_answered_here(bench: Bench, name: str, code: str) -> None:
    link = bench.edge()
    client = connected(bench, link)
    client.shared(name, (USE,), (SET, "x", 1.0))
    settle()
    one, two, last = [plain(told) for told in link.take()]
    assert one[3] == [("STATUS", f"SharedObject.{code}", "error")]
    assert two[3] == [NO_WRITE, ("REMOVE", "x")]
    assert last == Unrouted(client.number, name, False)


def test_a_client_has_a_limit_of_objects_elsewhere_as_well() -> None:
    bench = Bench({"app": Spread}, objects_per_session=2)
    link = bench.edge()
    client = connected(bench, link)
    for name in "abc":
        client.shared(name, (USE,))
    settle()
    assert [type(told) for told in link.take()] == [Routed, Routed, ToClient, Unrouted]
    client.shared("a", (RELEASE,))
    client.shared("c", (USE,))
    settle()
    assert [told.route for told in link.take()] == [2, 1]


def test_a_scope_has_a_limit_of_objects_elsewhere() -> None:
    bench = Bench({"app": Spread}, objects_per_group=1)
    link = bench.edge()
    one, two = connected(bench, link), connected(bench, link)
    one.shared("a", (USE,))
    two.shared("b", (USE,))
    two.shared("a", (USE,))
    settle()
    assert [type(told) for told in link.take()] == [Routed, ToClient, Unrouted, Routed]


def test_who_leaves_uses_nothing_any_more(bench: Bench) -> None:
    client = connected(bench, bench.edge())
    client.shared("board", (USE,))
    settle()
    routes = client.scope._group.objects.routes
    client.detach()
    settle()
    assert routes.users("board", False) == 0
    assert routes._used == {}


def test_where_each_change_is_asked_for_all_come_here(bench: Bench) -> None:
    link = bench.edge()
    client = connected(bench, link, "checked/room")
    client.shared(
        "board", (USE,), (SET, "x", 13.0), (SET, "y", 1.0), (SEND, "shout", 1.0), (SEND, "shout", 2.0)
    )
    settle()
    (routed,) = link.take()
    assert (routed.route, routed.denied) == (0, [1, 3])
    client.shared("board", (SET, "x", 13.0))
    settle()
    (routed,) = link.take()
    assert (routed.route, routed.denied, routed.access) == (0, [0], ALL)


KINDS = st.sampled_from(
    [(USE,), (RELEASE,), (SET, "x", 1.0), (SET, "y", 13.0), (DELETE, "x"), (CLEAR,), (SEND, "a")]
)
NAMES = st.sampled_from(["one", "two", "secret", "shown", "bad*"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["app", "checked"]), st.lists(st.tuples(NAMES, st.lists(KINDS, max_size=5)), max_size=8)
)
def test_each_message_is_answered_to_the_edge_once(app: str, messages: list[Any]) -> None:
    bench = Bench({"app": Spread, "checked": Checked})
    link = bench.edge()
    client = connected(bench, link, f"{app}/room")
    link.take()
    for name, made in messages:
        client.shared(name, *made)
    settle()
    answers = link.take(Routed, Unrouted)
    names = [told.group.partition("#so:")[2] if isinstance(told, Routed) else told.name for told in answers]
    assert names == [name for name, _ in messages]
    used: set[str] = set()
    for (name, _), answer in zip(messages, answers, strict=True):
        if not isinstance(answer, Routed):
            continue
        # What is sent on begins with Use, or the object is used: the group never hears of it otherwise.
        assert name in used or events(answer)[0] == ("USE",)
        used.discard(name)
        if answer.route != 2:
            used.add(name)


# The group that has the object


class GuestSide:
    """A guest's attachment to `app/room#so:board`."""

    def __init__(self, bench: Bench, link: FakeLink, number: int) -> None:
        self.bench, self.link, self.number, self.sent = bench, link, number, 0
        if "app/room#so:board" not in bench.view.groups:
            bench.change("group", "app/room#so:board", "origin-1", 1)
        self.put(guest_attach(number, f"s-{number}", "app/room#so:board"))
        settle()
        assert link.take() == [Attached(number, 0, False)]
        self._writer = FakeClient(bench, link, number, "app/room#so:board")
        self._writer.message = self._message  # type: ignore[method-assign]  # It goes as a guest's.
        self._how: tuple[int, list[int]] | None = None

    def put(self, envelope: Any) -> None:
        self.bench.origin.batch(self.link, [envelope])  # type: ignore[arg-type]  # All that it needs of a Link.

    def _message(self, message: Message) -> None:
        self.sent += 1
        what = (message.type_id, 0, 0, message.payload)
        if self._how is None:
            self.put(FromClient(self.number, self.sent, *what))
        else:
            access, denied = self._how
            self.put(FromGuest(self.number, self.sent, access, denied, *what))

    def routed(self, *made: Any, access: int = ALL, denied: list[int] | None = None) -> None:
        """A message that the home has sent on."""
        self._how = (access, denied or [])
        self._writer.shared("board", *made)
        settle()

    def straight(self, *made: Any) -> None:
        """A message that came here at once."""
        self._how = None
        self._writer.shared("board", *made)
        settle()


def test_a_guest_does_what_its_home_allows(bench: Bench) -> None:
    link = bench.edge()
    guest = GuestSide(bench, link, 7)
    guest.routed((USE,), (SET, "x", 1.0), (SET, "y", 1.0), denied=[2])
    opened, joined, update, answer = link.take()
    assert [type(told) for told in (opened, joined, update, answer)] == [
        ObjectOpened,
        ObjectJoined,
        ObjectUpdate,
        ObjectAnswer,
    ]
    assert (update.session, update.version) == (7, 1)
    guest.straight((SET, "x", 2.0))
    assert [type(told) for told in link.take()] == [ObjectUpdate]
    guest.routed((SET, "x", 3.0), access=int(Access.READ))
    assert [type(told) for told in link.take()] == [ObjectAnswer]
    guest.routed((RELEASE,))
    assert link.take() == [ObjectLeft(7, opened.shared_object), GuestIdle(7, 4)]
    guest.straight((SET, "x", 4.0))
    told, idle = link.take()
    assert plain(told)[3] == [NO_WRITE, ("REMOVE", "x")]
    assert idle == GuestIdle(7, 5)


def test_a_guest_makes_no_object_that_its_home_does_not_let_it_make(bench: Bench) -> None:
    link = bench.edge()
    guest, other = GuestSide(bench, link, 7), None
    guest.routed((USE,), access=int(Access.READ | Access.WRITE))
    told, idle = link.take()
    assert plain(told)[3] == [("STATUS", "SharedObject.ObjectCreationFailed", "error")]
    assert idle == GuestIdle(7, 1)
    other = GuestSide(bench, link, 8)
    other.routed((USE,))
    link.take()
    guest.routed((USE,), access=int(Access.READ | Access.WRITE))
    assert [type(told) for told in link.take()] == [ObjectJoined]


def test_a_guests_group_goes_elsewhere_without_a_word(bench: Bench) -> None:
    link = bench.edge()
    guest = GuestSide(bench, link, 7)
    guest.routed((USE,), (SET, "x", 1.0))
    link.take()
    group = bench.origin.groups["app/room#so:board"]
    assert group.application is None
    assert group.members == []
    group.close("moved")
    settle()
    assert link.take() == []
    assert link.data.objects == {}


def test_an_access_hook_that_waits_holds_up_its_client_only() -> None:
    gate = Gate()

    class Slow(Spread):
        def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
            gate.wait()
            return Access.ALL

    bench = Bench({"app": Slow})
    link = bench.edge()
    one, gone = connected(bench, link), connected(bench, link)
    one.shared("board", (USE,))
    one.shared("board", (SET, "x", 1.0))
    gone.shared("board", (USE,))
    settle()
    assert link.take() == []
    gone.detach()
    gate.set()
    settle()
    assert [told.session for told in link.take(Routed)] == [one.number, one.number]
    assert bench.origin.groups["app/room"].objects.routes.users("board", False) == 1
