"""Whatever happens to origins, links and assignments, and in whatever order: each message of a client is applied once and in
order, each answer is heard once and in order, and the edge keeps nothing for ever."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

from headwater_bus import traffic
from headwater_bus.view import Assignment
from headwater_rtmp.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edge import GROUP, FakeLink, Peer, attached, end_all, linked, lose, make_edge, say

ORIGINS = ("origin-1", "origin-2", "origin-3")
CLIENTS = 2
STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("send"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.sampled_from(["work", "commit", "hear"]), st.sampled_from(ORIGINS)),
    st.tuples(st.sampled_from(["all work", "all commit", "all are heard"]), st.integers(1, 4)),
    st.tuples(st.sampled_from(["all work", "all commit", "all are heard"]), st.integers(1, 4)),
    st.tuples(st.just("there and back"), st.sampled_from(ORIGINS)),
    st.tuples(st.sampled_from(["cut", "kill"]), st.sampled_from(ORIGINS)),
    st.tuples(st.sampled_from(["grant", "orphan"]), st.sampled_from(ORIGINS)),
    st.tuples(st.sampled_from(["feed", "feed", "timer", "timer"]), st.just("")),
)


class Journal:
    """What the group's store holds: the epoch at which it was opened last, each session's last number, and what was said."""

    def __init__(self) -> None:
        self.epoch = 0
        self.applied: dict[str, list[bytes]] = {}
        self.said: list[tuple[str, bytes]] = []


class Session:
    def __init__(self, session_id: str, applied: int) -> None:
        self.session_id, self.handled, self.told = session_id, applied, applied


class Origin:
    """One origin: it works through what a link brings, commits what it has handled all at once, and then says what came of it."""

    def __init__(self, cluster: "Model", name: str) -> None:
        self.model, self.name = cluster, name
        self.restart()

    def restart(self) -> None:
        self.link: FakeLink | None = None
        self.at = 0
        self.sessions: dict[int, Session] = {}
        self.handled: list[tuple[int, int, bytes]] = []
        self.batch: list[Any] = []
        self.batches: deque[list[Any]] = deque()

    def follow(self) -> FakeLink | None:
        """The link that leads here now; a new one begins with nothing."""
        link: Any = self.model.edge.cluster.links.get(self.name)
        if link is not self.link:
            self.restart()
            self.link = link
        return self.link

    def work(self) -> bool:
        link = self.follow()
        if link is None or self.at >= len(link.sent):
            return False
        envelope = link.sent[self.at]
        self.at += 1
        if isinstance(envelope, traffic.Attach):
            self.attach(envelope)
        elif isinstance(envelope, traffic.FromClient) and envelope.session in self.sessions:
            session = self.sessions[envelope.session]
            if envelope.number > session.handled:
                assert envelope.number == session.handled + 1
                session.handled = envelope.number
                self.handled.append((envelope.session, envelope.number, envelope.payload))
        elif isinstance(envelope, traffic.Detach):
            self.sessions.pop(envelope.session, None)
        return True

    def attach(self, envelope: traffic.Attach) -> None:
        model = self.model
        self.lose_group_of_others()
        if model.owner != Assignment(GROUP, self.name, envelope.epoch):
            self.batch.append(traffic.AttachRefused(envelope.session, GROUP, "not mine", envelope.epoch))
            self.flush()
            return
        journal = model.journal
        journal.epoch = envelope.epoch
        said = journal.applied.setdefault(envelope.session_id, [])
        number = max(len(said), envelope.applied)
        assert number == len(said)
        self.handled = [row for row in self.handled if row[0] != envelope.session]
        self.sessions[envelope.session] = Session(envelope.session_id, number)
        self.batch.append(traffic.Attached(envelope.session, number, False, envelope.epoch))
        again = journal.said[envelope.heard :]
        self.batch += [
            traffic.ToClient(envelope.session, 20, 0, 0, payload)
            for session_id, payload in again
            if session_id == envelope.session_id
        ]
        self.batch.append(traffic.Applied([envelope.session, number, len(journal.said)]))
        self.flush()

    def lose_group_of_others(self) -> None:
        """It has not the group any more: what it had not committed is refused by the store."""
        if self.model.owner.origin != self.name or self.model.owner.epoch < self.model.journal.epoch:
            self.sessions.clear()
            self.handled.clear()

    def commit(self) -> None:
        self.follow()
        self.lose_group_of_others()
        handled, self.handled = self.handled, []
        rows: list[int] = []
        for number_of_session, number, payload in handled:
            session = self.sessions.get(number_of_session)
            if session is None:
                continue
            self.model.journal.applied[session.session_id].append(payload)
            self.model.journal.said.append((session.session_id, payload))
            self.batch.append(traffic.ToClient(number_of_session, 20, 0, 0, payload))
            rows += [number_of_session, number, len(self.model.journal.said)]
        if rows:
            self.batch.append(traffic.Applied(rows))
            self.flush()

    def flush(self) -> None:
        self.batches.append(self.batch)
        self.batch = []

    def hear(self) -> bool:
        """One batch reaches the edge."""
        if self.follow() is None or not self.batches:
            return False
        assert self.link is not None
        say(self.model.edge, self.link, *self.batches.popleft())
        return True


class Model:
    """A cluster of fakes around an edge. The registry's table is `owner`; the edge hears of it by `feed`."""

    def __init__(self) -> None:
        self.edge, self.node, _ = make_edge(resume_s=1000.0, attach_s=1000.0)
        for name in ORIGINS[1:]:
            linked(self.edge, self.node, name)
        self.owner = Assignment(GROUP, "origin-1", 3)
        self.journal = Journal()
        self.feed: deque[list[Any]] = deque()
        self.timers: deque[Callable[[], None]] = deque()
        self.origins = {name: Origin(self, name) for name in ORIGINS}
        self.node.assign = self.assign  # type: ignore[method-assign]  # this node is asked through the test
        self.peers: list[Peer] = []
        first: Any = self.edge.cluster.links["origin-1"]
        for _ in range(CLIENTS):
            self.peers.append(attached(self.edge, first))
        while self.origins["origin-1"].work():
            pass
        while self.origins["origin-1"].hear():
            pass
        self.sent: list[list[bytes]] = [[] for _ in self.peers]

    def later(self, *args: Any) -> None:
        """Instead of gevent's: timers and greenlets run when a step says so."""
        if not callable(args[0]):
            args = args[1:]
        job, *rest = args
        self.timers.append(lambda: job(*rest))

    def assign(self, group: str, timeout_s: float = 2.0) -> Assignment:
        """The balancer grants an orphan to somebody."""
        if not self.owner.origin:
            self.grant(ORIGINS[self.owner.epoch % len(ORIGINS)])
        return self.owner

    def grant(self, origin: str) -> None:
        if self.owner.origin != origin:
            for one in self.origins.values():
                if one.name == self.owner.origin:
                    one.sessions.clear()
                    one.handled.clear()
            self.owner = Assignment(GROUP, origin, self.owner.epoch + bool(origin))
            self.feed.append(["group", GROUP, origin, self.owner.epoch])

    def step(self, what: str, how: Any) -> None:
        if what == "send":
            client = self.peers[how].client
            assert client is not None
            payload = b"%d %d" % (how, len(self.sent[how]))
            self.sent[how].append(payload)
            self.edge.router.route(client, Message(20, 0, 0, payload))
        elif what in ("work", "commit", "hear"):
            getattr(self.origins[how], what)()
        elif what.startswith("all "):
            name = {"all work": "work", "all commit": "commit", "all are heard": "hear"}[what]
            for _ in range(how):
                for origin in self.origins.values():
                    getattr(origin, name)()
        elif what == "there and back":
            # Faster than what the first one has said meanwhile.
            for name in (how, self.owner.origin):
                self.grant(name)
                while self.feed:
                    self.step("feed", "")
        elif what in ("cut", "kill"):
            link = self.origins[how].follow()
            if link is not None:
                lose(self.edge, link)
            self.origins[how].restart()
            if what == "kill" and self.owner.origin == how:
                self.grant("")
        elif what == "grant":
            self.grant(how)
        elif what == "orphan" and self.owner.origin == how:
            self.grant("")
        elif what == "feed" and self.feed:
            self.node.changed(self.feed.popleft())
        elif what == "timer" and self.timers:
            self.timers.popleft()()

    def settle(self) -> None:
        """Nothing fails any more, and everybody goes on until there is nothing to do."""
        for _ in range(1000):
            while self.feed:
                self.step("feed", "")
            busy = bool(self.timers)
            for _ in range(len(self.timers)):
                self.step("timer", "")
            for origin in self.origins.values():
                while origin.work():
                    busy = True
                origin.commit()
                while origin.hear():
                    busy = True
            if not busy and not self.feed:
                return
        raise AssertionError("never done")


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=40, max_size=150))
def test_every_message_is_applied_once_and_every_answer_heard_once(steps: list[tuple[str, Any]]) -> None:
    fake = mock.Mock()
    with (
        mock.patch("headwater_edge.cluster.EdgeLink", FakeLink),
        mock.patch("headwater_edge.attaching.gevent", fake),
    ):
        model = Model()
        fake.spawn_later = fake.spawn = model.later
        try:
            for what, how in steps:
                model.step(what, how)
            model.settle()
            for peer, sent in zip(model.peers, model.sent, strict=True):
                client = peer.client
                assert client is not None
                assert not client.closed
                assert model.journal.applied[f"b00t-{client.session}"] == sent
                peer.until(lambda: len(peer.messages) >= len(sent))  # noqa: B023
                assert [message.payload for message in peer.messages] == sent
                assert (client.kept_messages, client.kept_bytes) == (0, 0)
                assert client.home.unacknowledged is None
            assert model.edge.health()["resuming"] == 0
            group = model.edge.cluster.groups[GROUP]
            assert (group.finding, group.gone, group.loss) == ({}, [], None)
            for peer in model.peers:
                peer.client.close("done", gone=True)  # type: ignore[union-attr]  # see above
            model.edge.check_deadlines(time.monotonic() + 2000)
            assert model.edge.cluster.groups == {}
            for link in model.edge.cluster.links.values():
                assert (link.data.groups, link.data.attachments) == ({}, {})
        finally:
            end_all()
