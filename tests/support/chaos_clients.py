"""The clients of the chaos suite: they count, call, chat, publish and play, and check all that they see."""

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent.event import Event
from headwater_amf import amf0
from headwater_client import ChangeEvent, ClientError, ConnectionClosed, NetConnection, SharedObject
from headwater_client.transport import Transport
from headwater_rtmp.command import Command
from headwater_rtmp.message import Message, MessageType
from headwater_rtmp.shared_object import EventType, SharedObjectMessage

from support.chaos_app import MESSAGE_NAME
from support.chaos_checks import Calls, Findings, History, Media, ObjectTruth, Replica, Sequence
from support.waiting import TIME_FACTOR, eventually

PATIENCE_S = 60.0 * TIME_FACTOR
"""An answer may be late, when one origin after the other fails; later than this is a finding."""
SHARED_SLOT = "shared"
RING_S = 4.0
_CHANGE_S, _CALL_S, _CHAT_S, _SHARED_S = 0.35, 1.2, 1.0, 1.5
_SLOW_S = 0.3
_SENT = "sent"
"""The handler of what is said by `SharedObject.send`."""
_FPS, _KEYFRAME_EVERY = 25, 25
_PADDING = bytes(200)
_KEYFRAME, _INTER = 0x17, 0x27
_MARK = b"number:"
_HEADERS = (
    (
        MessageType.VIDEO,
        b"\x17\x00\x00\x00\x00\x01\x42\xc0\x1e\xff\xe1\x00\x04\x67\x42\xc0\x1e\x01\x00\x04\x68\xce\x3c\x80",
    ),
    (MessageType.AUDIO, b"\xaf\x00\x12\x10"),
)


class Pauses:
    """How long answers took, those over 0.3 s: (asked at, seconds, who)."""

    def __init__(self, findings: Findings) -> None:
        self._clock = findings.clock
        self.slow: list[tuple[float, float, str]] = []
        self.answers = 0

    def answered(self, asked_s: float, who: str) -> None:
        """Something that was asked then is answered now."""
        self.answers += 1
        took_s = self._clock() - asked_s
        if took_s > _SLOW_S:
            self.slow.append((asked_s, took_s, who))

    def worst_between(self, begin_s: float, end_s: float) -> float:
        """The longest of those that were waited for at some time between."""
        return max(
            (took for asked, took, _ in self.slow if asked < end_s and asked + took > begin_s), default=0.0
        )


class WatchedObject(SharedObject):
    """A SharedObject whose messages a Replica checks, from the moment when it is synced. Others set no slots of it but by
    `board[key] = value`."""

    def __init__(
        self, connection: NetConnection, name: str, persistent: bool, replica: Replica, pauses: Pauses
    ) -> None:
        super().__init__(connection, name, persistent)
        self.replica, self._pauses = replica, pauses
        self._times: dict[str, deque[float]] = {}
        self.served_s = 0.0
        """When the last change was asked for that is acknowledged."""

    def __setitem__(self, key: str, value: Any) -> None:
        self.replica.asked(key, value)
        self._times.setdefault(key, deque()).append(self.replica.history.now_s)
        super().__setitem__(key, value)

    def receive(self, message: SharedObjectMessage) -> None:
        """See SharedObject."""
        watched = self.synced
        super().receive(message)
        if watched:
            self._check(message)
        elif self.synced:
            self.replica.begins(self.version, dict(self))

    def _check(self, message: SharedObjectMessage) -> None:
        events: list[tuple[EventType, str, Any]] = []
        for event in message.events:
            key = event.key or ""
            if event.type == EventType.SUCCESS:
                events.append((EventType.SUCCESS, key, None))
                if times := self._times.get(key):
                    self.served_s = max(self.served_s, times[0])
                    self._pauses.answered(times.popleft(), self.replica.history.client)
            elif event.type == EventType.CHANGE:
                events.append((EventType.CHANGE, key, amf0.decode(event.value or b"")[0]))
            elif event.type == EventType.CLEAR:
                self.replica.cleared()
            elif event.type == EventType.STATUS and event.level == "error":
                self.replica.refused(event.code)
        self.replica.message(message.version, events)


class WatchedConnection(NetConnection):
    """A NetConnection that reports what it should not hear: a second answer, a status, its end."""

    def __init__(self, url: str, history: History, amf3: bool) -> None:
        super().__init__(url, history.client, timeout_s=PATIENCE_S, object_encoding=3 if amf3 else 0)
        self.history = history
        self.ending = False
        """Whether we are about to close it."""
        self.on_status(
            lambda info: history.wrong("told", f"status {info.get('code')}: {info.get('description')}")
        )

    def watch_object(self, name: str, persistent: bool, replica: Replica, pauses: Pauses) -> WatchedObject:
        """In place of `shared_object`."""
        shared = WatchedObject(self, name, persistent, replica, pauses)
        self.objects.add(shared)
        shared.wait_synced()
        return shared

    def _answer(self, transport: Transport, command: Command) -> None:
        if command.transaction_id not in self._calls:
            self.history.wrong(
                "answered twice", f"transaction {command.transaction_id:g}: {command.name} {command.args}"
            )
        super()._answer(transport, command)

    def _ended(self, transport: Transport) -> None:
        super()._ended(transport)
        if not self.ending:
            self.history.wrong("disconnected", self.close_reason)

    def end(self) -> None:
        """Close it, which is no finding."""
        self.ending = True
        self.close()


class Group:
    """The members of one scope, and what they have in common. `spread`: its objects are groups of their own, so there is no
    order between them."""

    def __init__(self, scope: str, findings: Findings, pauses: Pauses, spread: bool) -> None:
        self.scope, self.findings, self.pauses = scope, findings, pauses
        self.one_order = not spread
        """Whether all that a client says is heard in one order, however it says it."""
        self.members: list[Member] = []
        self.truths = {name: ObjectTruth() for name in OBJECTS}

    def settled(self) -> bool:
        """Whether everything that was sent has arrived everywhere."""
        here = [member for member in self.members if not member.connection.closed.is_set()]
        return all(member.settled() for member in here) and all(
            dict(member.objects[name]) == dict(here[0].objects[name]) for name in OBJECTS for member in here
        )

    def finish(self, url: str) -> None:
        """Check all of it at the end, also as a new client sees it. `url`: through any edge."""
        history = History(f"fresh-{self.scope}", self.findings)
        try:
            fresh = WatchedConnection(url, history, amf3=False)
            fresh.connect()
        except ClientError as error:
            history.wrong("not served", str(error))
            return
        try:
            self._finish(fresh)
        except ClientError as error:
            history.wrong("not served", str(error))
        finally:
            fresh.end()

    def _finish(self, fresh: WatchedConnection) -> None:
        for name, persistent in OBJECTS.items():
            stored = fresh.shared_object(name, persistent)
            stored.wait_synced()
            contents = dict(stored)
            for member in self.members:
                shared = member.objects[name]
                shared.replica.finish(dict(shared), stored.version, contents)
        totals = fresh.call("totals")
        for member in self.members:
            member.finish(fresh.call("journal", member.name))
            came, left = totals.get(f"connected {member.name}"), totals.get(f"left {member.name}")
            if (came, left) != (1, None):
                member.history.wrong(
                    "not one session", f"the application has seen {came} on_connect and {left} on_disconnect"
                )
        called = sum(member.calls.sent_to for member in self.members)
        if totals.get("sum", 0) != called:
            fresh.history.wrong("wrong sum", f"the sum is {totals.get('sum')}, there were {called} calls")


OBJECTS = {"board": False, "kept": True}
"""Names of the objects that each group uses: whether they are persistent."""


class Member:
    """One client of a group."""

    def __init__(self, url: str, name: str, amf3: bool, group: Group) -> None:
        self.name, self.group = name, group
        self.history = History(name, group.findings)
        self.connection = WatchedConnection(url, self.history, amf3)
        self.calls = Calls(self.history, name)
        self.said, self.sent, self.of_all = 0, 0, 0
        """How many broadcasts, `send`s, and both."""
        self.objects: dict[str, WatchedObject] = {}
        self._heard: dict[tuple[str, str], Sequence] = {}
        self._ending = False
        self._jobs: list[gevent.Greenlet[..., None]] = []

    def connect(self) -> None:
        """Connect and use the objects."""
        self.connection.on(MESSAGE_NAME, partial(self._hear, "broadcasts"))
        self.connection.connect()
        for name, persistent in OBJECTS.items():
            replica = Replica(self.history, self.group.truths[name], name, SHARED_SLOT)
            shared = self.objects[name] = self.connection.watch_object(
                name, persistent, replica, self.group.pauses
            )
            shared.on(_SENT, partial(self._hear, "sends"))
            shared.on_change(partial(self._changed, name))

    def _changed(self, name: str, event: ChangeEvent) -> None:
        self.history.note(f"{name}: {event.kind} {event.key} {event.new!r}")

    def _hear(self, kind: str, name: str, number: float, of_all: float) -> None:
        self.history.note(f"hears {kind} {number:g} of {name}, {of_all:g}")
        self.sequence(name, kind).heard(int(number))
        if self.group.one_order:
            self.sequence(name, "words").heard(int(of_all))

    def sequence(self, name: str, kind: str) -> Sequence:
        """What it hears of one."""
        found = self._heard.get((name, kind))
        if found is None:
            found = self._heard[name, kind] = Sequence(self.history, f"{kind} of {name}")
        return found

    # What it does

    def start(self, chance: random.Random) -> None:
        """Begin, each job at its own time."""
        jobs = (
            (self._change, _CHANGE_S),
            (self._share, _SHARED_S),
            (self._call, _CALL_S),
            (self._chat, _CHAT_S),
        )
        for job, every_s in jobs:
            self._jobs.append(gevent.spawn_later(chance.random() * every_s, self._run, job, every_s, chance))

    def _run(self, job: Callable[[random.Random], None], every_s: float, chance: random.Random) -> None:
        try:
            while not self._ending:
                job(chance)
                gevent.sleep(every_s * chance.uniform(0.7, 1.3))
        except ConnectionClosed:
            pass  # The connection has reported it.
        except ClientError as error:
            self.history.wrong("refused", str(error))

    def _change(self, chance: random.Random) -> None:
        shared = self.objects[chance.choice(list(OBJECTS))]
        shared[self.name] = shared.get(self.name, 0) + 1

    def _share(self, chance: random.Random) -> None:
        """A value that nobody has set before."""
        shared = self.objects[chance.choice(list(OBJECTS))]
        shared[SHARED_SLOT] = f"{self.name} {self.history.now_s:.6f}"

    def _call(self, chance: random.Random) -> None:
        """One call, or several at once."""
        gevent.joinall([gevent.spawn(self._call_once) for _ in range(chance.choice((1, 1, 3)))])

    def _call_once(self) -> None:
        number = self.calls.ask()
        asked_s = self.history.now_s
        self.history.note(f"call {number}")
        try:
            result = self.connection.call("count", number)
        except ConnectionClosed:
            return
        except ClientError as error:
            self.calls.fail(number, error)
            return
        self.group.pauses.answered(asked_s, self.name)
        self.history.note(f"answer {number}: {result}")
        self.calls.answer(number, result)

    def _chat(self, chance: random.Random) -> None:
        self.of_all += 1
        if chance.random() < 0.5:
            self.said += 1
            self.history.note(f"says {self.said}, {self.of_all}")
            self.connection.notify("say", self.said, self.of_all)
        else:
            self.sent += 1
            self.history.note(f"sends {self.sent}, {self.of_all}")
            self.objects["board"].send(_SENT, self.name, self.sent, self.of_all)

    # The end

    def served_since(self, begin_s: float) -> bool:
        """Whether changes are acknowledged that were asked for after a moment."""
        return self.connection.closed.is_set() or any(
            shared.served_s > begin_s for shared in self.objects.values()
        )

    def stop(self) -> None:
        """Begin nothing more, and wait for the calls."""
        self._ending = True
        gevent.joinall(self._jobs, timeout=PATIENCE_S)

    def settled(self) -> bool:
        """Whether it has heard everything, and all that it asked for is answered."""
        if self.connection.closed.is_set():
            return True
        return not any(shared.unanswered for shared in self.objects.values()) and all(
            self.sequence(member.name, kind).heard_to == to
            for member in self.group.members
            for kind, to in member.spoken()
        )

    def spoken(self) -> list[tuple[str, int]]:
        """How many of each kind were sent."""
        both = [("words", self.of_all)] if self.group.one_order else []
        return [("broadcasts", self.said), ("sends", self.sent), *both]

    def finish(self, journal: dict[str, float]) -> None:
        """Check what it has heard, and its calls; `journal` is the application's."""
        self.calls.finish(journal)
        if self.connection.closed.is_set():
            return  # That is one finding, not hundreds.
        for member in self.group.members:
            for kind, to in member.spoken():
                self.sequence(member.name, kind).finish(to)


class Publisher:
    """Publishes 25 numbered pictures a second and half as many pieces of sound; a keyframe each second."""

    def __init__(self, url: str, name: str, amf3: bool, findings: Findings) -> None:
        self.name = name
        self.history = History(f"publisher-{name}", findings)
        self.connection = WatchedConnection(url, self.history, amf3)
        self.sent = 0
        self._ending = Event()

    def start(self) -> None:
        """Connect and begin."""
        self.connection.connect()
        self._stream = self.connection.create_stream()
        self._stream.publish(self.name)
        self._stream.on_status(lambda info: self.history.wrong("told", f"{info}"))
        self._stream.send_metadata({"videocodecid": 7.0, "audiocodecid": 10.0, "framerate": float(_FPS)})
        for type_id, payload in _HEADERS:
            self._stream.send_message(Message(type_id, 0, 0, payload))
        self._job = gevent.spawn(self._run)

    def _run(self) -> None:
        began_s = self.history.now_s
        picture = 0
        try:
            while not self._ending.wait(max(0.0, began_s + picture / _FPS - self.history.now_s)):
                timestamp_ms = picture * 1000 // _FPS
                self.sent += 1
                self._stream.send_video(video(self.sent, picture % _KEYFRAME_EVERY == 0), timestamp_ms)
                if picture % 2 == 0:
                    self.sent += 1
                    self._stream.send_audio(audio(self.sent), timestamp_ms)
                if picture % _KEYFRAME_EVERY == 0:
                    self.history.note(f"sent {self.sent}")
                picture += 1
        except ConnectionClosed:
            pass  # The connection has reported it.
        except ClientError as error:
            self.history.wrong("refused", str(error))

    def stop(self) -> None:
        """Send no more; the stream stays published."""
        self._ending.set()
        self._job.join()


class Player:
    """Plays one publisher's stream, and checks its numbers."""

    def __init__(self, url: str, publisher: Publisher, number: int, amf3: bool, findings: Findings) -> None:
        self.publisher = publisher
        self.history = History(f"player-{publisher.name}-{number}", findings)
        self.connection = WatchedConnection(url, self.history, amf3)
        self.media = Media(self.history, publisher.name, RING_S)
        self.headers = 0
        self.served_s = 0.0

    def start(self) -> None:
        """Connect and play."""
        self.connection.connect()
        self._stream = self.connection.create_stream()
        self._stream.play(self.publisher.name)
        self._job = gevent.spawn(self._run)
        eventually(lambda: self.media.received, within_s=20, what=f"{self.history.client} plays")
        self._stream.on_status(lambda info: self.history.wrong("told", f"{info}"))

    def _run(self) -> None:
        for message in self._stream.messages(None):
            number = number_of(message)
            if number is None:
                self.headers += 1
                self.history.note(f"header of type {message.type_id}, {len(message.payload)} bytes")
                continue
            keyframe = message.type_id == MessageType.VIDEO and message.payload[0] == _KEYFRAME
            if keyframe:
                self.history.note(f"keyframe {number}")
            self.media.frame(number, keyframe)
            self.served_s = self.history.now_s
        if not self.connection.ending and not self.connection.closed.is_set():
            self.history.wrong("stream ended", str(self._stream.ending))

    def served_since(self, begin_s: float) -> bool:
        """Whether frames have come after a moment."""
        return self.connection.closed.is_set() or self.served_s > begin_s

    def settled(self) -> bool:
        """Whether it has all that was sent."""
        return self.connection.closed.is_set() or self.media.last == self.publisher.sent

    def finish(self) -> None:
        """Check that it has."""
        if not self.connection.closed.is_set():
            self.media.finish(self.publisher.sent)


def video(number: int, keyframe: bool) -> bytes:
    """An H.264 picture as FLV has it: one NAL unit, whose content is a number."""
    unit = (b"\x65" if keyframe else b"\x41") + _MARK + number.to_bytes(8, "big") + _PADDING
    return bytes((_KEYFRAME if keyframe else _INTER, 1, 0, 0, 0)) + len(unit).to_bytes(4, "big") + unit


def audio(number: int) -> bytes:
    """A raw AAC frame as FLV has it, whose content is a number."""
    return b"\xaf\x01" + _MARK + number.to_bytes(8, "big") + _PADDING[:100]


def number_of(message: Message) -> int | None:
    """Of a picture or a piece of sound; None for headers and metadata."""
    payload = bytes(message.payload)
    if message.type_id not in (MessageType.VIDEO, MessageType.AUDIO) or payload[1] != 1:
        return None
    at = payload.index(_MARK) + len(_MARK)
    return int.from_bytes(payload[at : at + 8], "big")
