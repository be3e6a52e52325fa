"""A scope on this origin: its application object, sessions, streams and SharedObjects."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from headwater_bus.logs import get_log
from headwater_bus.traffic import ToClient
from headwater_rtmp.command import encode_command
from headwater_rtmp.control import stream_begin, stream_eof
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.application import Application, overrides
from headwater_origin.objects import SharedObjects
from headwater_origin.streams import Stream

if TYPE_CHECKING:
    from headwater_origin.config import OriginConfig
    from headwater_origin.counters import Counters
    from headwater_origin.session import NetStream, Session


_log = get_log("origin")
_LAST_WORK_S = 5.0
"""How long `on_stop` waits for hooks and methods that still run."""


class Group:
    """One `app/instance` at one epoch. Whoever makes it starts it with `start`."""

    def __init__(
        self,
        name: str,
        epoch: int,
        application: type[Application],
        config: "OriginConfig",
        counters: "Counters",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.epoch = name, epoch
        self.config, self.counters = config, counters
        self.clock = clock
        self.sessions: dict[Session, None] = {}
        """All sessions, also those that the application has not accepted yet."""
        self.streams: dict[str, Stream] = {}
        self.objects = SharedObjects(self)
        self.idle_since: float | None = clock()
        self.stopped = False
        self.started = Event()
        """Set when `on_start` has returned or failed."""
        self.failure: str | None = None
        """Why the application did not start."""
        self._starter: gevent.Greenlet[..., None] | None = None
        """Runs `on_start`."""
        self._tasks: set[gevent.Greenlet[..., None]] = set()
        """Of the application; ended with the group."""
        self._workers: set[gevent.Greenlet[..., None]] = set()
        """Those in which sessions run application code."""
        self.ending: gevent.Greenlet[..., None] | None = None
        """Runs `on_stop`, after everything else."""
        self.application = application(self)
        self._blocking = {
            hook: overrides(self.application, hook)
            for hook in (
                "on_start",
                "on_stop",
                "on_connect",
                "on_disconnect",
                "on_publish",
                "on_unpublish",
                "on_play",
                "on_stop_play",
                "shared_object_access",
            )
        }

    def waits(self, hook: str) -> bool:
        """Whether a hook is application code, which may wait and so needs a greenlet."""
        return self._blocking[hook]

    def start(self) -> None:
        """Run `on_start`; sessions wait for it."""
        if self.waits("on_start"):
            self._starter = self.run(self._start)
        else:
            self.started.set()

    def _start(self) -> None:
        try:
            self.application.on_start()
        except hooks.FAILURES as error:
            hooks.failed(self, "on_start", error)
            self.failure = "the application did not start"
        self.started.set()

    def run(self, work: Callable[[], None]) -> "gevent.Greenlet[..., None]":
        """Run something in a greenlet that `on_stop` waits for."""
        worker = gevent.spawn(work)
        self._workers.add(worker)
        worker.rawlink(self._workers.discard)
        return worker

    # Sessions

    @property
    def members(self) -> "list[Session]":
        """The sessions that are connected."""
        return [session for session in self.sessions if session.accepted]

    def add(self, session: "Session") -> None:
        """A session begins; the application has not seen it yet."""
        self.sessions[session] = None
        self.idle_since = None

    def session_ended(self, session: "Session") -> None:
        """A session is over: what it published, played and used ends with it, then the application hears of it."""
        if self.sessions.pop(session, 0) == 0:
            return
        for net_stream in list(session.streams.values()):
            self.stop(session, net_stream, tell=False)
        session.streams.clear()
        self.objects.forget(session)
        if session.accepted and self.waits("on_disconnect"):
            session.post(lambda: hooks.tell(self, "on_disconnect", session.client), waits=True, always=True)
        if not self.sessions:
            self.idle_since = self.clock()

    def broadcast(self, name: str, args: tuple[Any, ...]) -> None:
        """Call a method of every connected client; the command is encoded once for each AMF version."""
        encoded: dict[bool, Message] = {}
        for session in self.members:
            message = encoded.get(session.amf3)
            if message is None:
                message = encoded[session.amf3] = encode_command(name, 0, None, *args, amf3=session.amf3)
            session.edge.link.send(ToClient(session.number, message.type_id, 0, 0, message.payload))

    # Streams

    def stream(self, name: str) -> Stream:
        """The stream of this name; it is there while somebody publishes or plays it."""
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = Stream(name, self.config, self.counters)
        return stream

    def publish(self, session: "Session", net_stream: "NetStream", name: str) -> None:
        """Make a session the publisher of a name that is free; waiting players are told."""
        stream = self.stream(name)
        stream.start_publishing(session, net_stream)
        _log.info(
            "published", group=self.name, stream=name, session=session.session_id, address=session.address
        )
        for player, playing in stream.players():
            player.send(stream_begin(playing.id))
            player.send_status(playing.id, status(StatusCode.PLAY_PUBLISH_NOTIFY, f"{name} is published"))

    def stop(self, session: "Session", net_stream: "NetStream", tell: bool = True) -> None:
        """A message stream publishes and plays nothing any more. `tell`: the client is still there."""
        publication, playing = net_stream.publication, net_stream.playing
        if publication is not None:
            self._unpublish(session, publication.stream, tell)
        if playing is not None:
            playing.remove_player(session, net_stream, tell)
            self._forget(playing)
            if session.accepted and self.waits("on_stop_play"):
                self._later(session, "on_stop_play", playing.name)

    def _unpublish(self, session: "Session", stream: Stream, tell: bool) -> None:
        stream.stop_publishing(tell)
        _log.info("unpublished", group=self.name, stream=stream.name, session=session.session_id)
        for player, playing in stream.players():
            if not player.closed:
                info = status(StatusCode.PLAY_UNPUBLISH_NOTIFY, f"{stream.name} is not published any more")
                player.send_status(playing.id, info)
                player.send(stream_eof(playing.id))
        self._forget(stream)
        if session.accepted and self.waits("on_unpublish"):
            self._later(session, "on_unpublish", stream.name)

    def _later(self, session: "Session", hook: str, name: str) -> None:
        session.post(lambda: hooks.tell(self, hook, session.client, name), waits=True, always=True)

    def _forget(self, stream: Stream) -> None:
        if stream.idle:
            self.streams.pop(stream.name, None)

    # Time and the end

    def tick(self, now: float) -> None:
        """Forget objects that nobody uses."""
        self.objects.tick(now)

    def lingered(self, now: float) -> bool:
        """Whether it had no session for so long that it may stop. One that holds persistent objects stays: they live here."""
        return (
            self.idle_since is not None
            and now - self.idle_since >= self.config.group_linger_s
            and not self.objects.holds_persistent
        )

    def spawn(
        self, function: Callable[..., None], args: tuple[Any, ...], delay_s: float
    ) -> "gevent.Greenlet[..., None]":
        """A greenlet of the application, ended with the group."""

        def run() -> None:
            try:
                function(*args)
            except hooks.FAILURES as error:
                hooks.failed(self, getattr(function, "__name__", "task"), error)

        task = gevent.spawn_later(delay_s, run) if delay_s > 0 else gevent.spawn(run)
        self._tasks.add(task)
        task.link(self._tasks.discard)
        return task

    def close(self, reason: str, code: StatusCode = StatusCode.CONNECT_CLOSED) -> None:
        """Close every session, end the application's greenlets and an `on_start` that has not returned, run `on_stop` when it
        has started and the others are done."""
        if self.stopped:
            return
        self.stopped = True
        for session in list(self.sessions):
            session.close(reason, code)
        self.objects.close()
        if not self.started.is_set():
            self.failure = "the application instance was stopped before it had started"
            self.started.set()
            if self._starter is not None:
                self._starter.kill(block=False)
        gevent.killall([task for task in self._tasks if task is not gevent.getcurrent()], block=False)
        if self.waits("on_stop"):
            self.ending = gevent.spawn(self._stop)

    def _stop(self) -> None:
        gevent.joinall(list(self._workers), timeout=_LAST_WORK_S)
        if self.started.is_set() and self.failure is None:
            hooks.tell(self, "on_stop")

    def health(self) -> dict[str, Any]:
        """Its sessions, streams and objects."""
        return {
            "epoch": self.epoch,
            "sessions": len(self.sessions),
            "streams": {name: stream.health() for name, stream in self.streams.items()},
            "objects": self.objects.health(),
        }
