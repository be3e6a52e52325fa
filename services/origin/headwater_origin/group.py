"""A group on this origin: a scope with its application object, sessions, streams and SharedObjects, or, where an application
spreads these, one object or one stream of it, without application code."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from headwater_bus.logs import get_log
from headwater_bus.traffic import ToClient
from headwater_rtmp.command import encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode
from headwater_store import Fenced, StoreError

from headwater_origin import hooks
from headwater_origin.application import Application, overrides
from headwater_origin.durable.absent import absent
from headwater_origin.durable.content import Durable
from headwater_origin.durable.journal import JournalError, replay
from headwater_origin.durable.outputs import Outputs
from headwater_origin.errors import GroupLost
from headwater_origin.host import Host
from headwater_origin.objects.table import SharedObjects
from headwater_origin.rooms import Rooms
from headwater_origin.streams import routes as stream_routes
from headwater_origin.streams.names import Streams
from headwater_origin.timers import Tasks
from headwater_origin.transaction import current

if TYPE_CHECKING:
    from headwater_origin.session import Session


_log = get_log("origin")
_LAST_WORK_S = 5.0
"""How long `on_stop` waits for hooks and methods that still run."""
_HOOKS = (
    "on_start",
    "on_stop",
    "on_connect",
    "on_resume",
    "on_disconnect",
    "on_join",
    "on_leave",
    "on_publish",
    "on_unpublish",
    "on_play",
    "on_stop_play",
    "shared_object_access",
    "shared_object_write",
    "shared_object_delete",
    "shared_object_send",
    "shared_object_proxy",
)


class Group:
    """One group at one epoch. Whoever makes it starts it with `start`. It alone changes what it has; what it says to edges
    about that goes by `send`."""

    def __init__(self, name: str, epoch: int, policy: type[Application], host: Host) -> None:
        self.name, self.epoch = name, epoch
        self.host, self.config, self.counters, self.clock = host, host.config, host.counters, host.clock
        self.policy = policy
        """The application's class, also where no object of it is here."""
        self.scope, spread, _ = name.partition("#")
        """The `app/instance` that it is, or is a part of."""
        self.outputs = Outputs(self, host.committer)
        self.journal = self.outputs.journal
        self.send = self.outputs.send
        self.reply = self.outputs.reply
        self.flushed = self.outputs.flushed
        self.sessions: dict[Session, None] = {}
        """All sessions, also those that the application has not accepted yet."""
        self.streams = Streams(self)
        self.objects = SharedObjects(self)
        self.idle_since: float | None = self.clock()
        self.stopped = False
        self.started = Event()
        """Set when `on_start` has returned or failed."""
        self.failure: str | None = None
        """Why the application did not start."""
        self._starter: gevent.Greenlet[..., None] | None = None
        """Runs `on_start`."""
        self.tasks = Tasks(self)
        self._jobs_runner: gevent.Greenlet[..., None] | None = None
        self.durable = Durable(self)
        self.rooms = Rooms(self)
        self._absent: list[Session] = []
        """Members that the journal knows and that have not come back yet."""
        self._absent_until = 0.0
        self._workers: set[gevent.Greenlet[..., None]] = set()
        """Those in which sessions run application code."""
        self.ending: gevent.Greenlet[..., None] | None = None
        """Runs `on_stop`, after everything else."""
        self.application = None if spread else policy(self)
        self._blocking = self._overridden()

    def _overridden(self) -> dict[str, bool]:
        return {hook: self.application is not None and overrides(self.application, hook) for hook in _HOOKS}

    def waits(self, hook: str) -> bool:
        """Whether a hook is application code, which may wait and so needs a greenlet."""
        return self._blocking[hook]

    @property
    def stalled(self) -> bool:
        """Whether changes are refused, as the store has been away too long or too much waits for it."""
        return self.outputs.stalled

    @property
    def spread_objects(self) -> bool:
        """Whether each SharedObject of this scope is a group of its own."""
        return self.application is not None and self.policy.shared_objects == "spread"

    @property
    def spread_streams(self) -> bool:
        """Whether each stream of this scope is a group of its own."""
        return self.application is not None and self.policy.streams == "spread"

    def start(self) -> None:
        """Read the journal and run `on_start`; sessions wait for it."""
        if self.outputs.off and not self.waits("on_start"):
            self._has_started()
        else:
            self._starter = self.run(self._start)

    def _start(self) -> None:
        try:
            if not self.outputs.off:
                self._restore()
            if self.waits("on_start"):
                hooks.run(self, self._application().on_start, ())
        except Fenced as fenced:
            self.fenced(fenced.epoch)
        except (StoreError, JournalError) as error:
            _log.error("group not opened", group=self.name, error=error)
            self.failure = "what the application instance has stored cannot be read now"
        except hooks.FAILURES as error:
            hooks.failed(self, "on_start", error)
            self.failure = "the application did not start"
        self._has_started()

    def _application(self) -> Application:
        assert self.application is not None
        return self.application

    def _has_started(self) -> None:
        if self.application is not None and self.failure is None and not self.stopped:
            self._jobs_runner = gevent.spawn(self.durable.jobs.run)
        self.started.set()

    def _restore(self) -> None:
        replay(self.host.committer.open(self), self.durable.apply)
        members = self.durable.members
        self._absent = [absent(self, session_id, member) for session_id, member in members.known.items()]
        for session in self._absent:
            if session.session_id in members.rooms:
                self.rooms.joined[session] = members.rooms[session.session_id]
        self._absent_until = self.clock() + self.config.resume_grace_s

    def fenced(self, epoch: int) -> None:
        """Another origin has the group, at this epoch: what is not committed yet was in vain."""
        if self.outputs.lost:
            return
        _log.error("group lost to another origin", group=self.name, epoch=self.epoch, theirs=epoch)
        self.counters.groups_lost += 1
        self.outputs.give_up()
        self.host.committer.forget(self)
        self._absent.clear()
        if not self.started.is_set():
            self.failure = "another origin has it"
        self.host.on_fenced(self, epoch)

    def renewed(self, epoch: int) -> None:
        """The registry has granted it to this origin at another epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.host.committer.renewed(self)

    def run(self, work: Callable[[], None]) -> "gevent.Greenlet[..., None]":
        """Run something in a greenlet that `on_stop` waits for."""
        worker = gevent.spawn(work)
        self._workers.add(worker)
        worker.rawlink(self._workers.discard)
        return worker

    # Sessions

    @property
    def members(self) -> "list[Session]":
        """The sessions that are connected; guests are none."""
        return [session for session in self.sessions if session.accepted and not session.guest]

    def add(self, session: "Session") -> None:
        """A session begins; the application has not seen it yet."""
        self.sessions[session] = None
        self.idle_since = None

    def returned(self, session_id: str) -> "Session | None":
        """The member of this id that the journal knows; it counts as here from now on."""
        for session in self._absent:
            if session.session_id == session_id:
                self._absent.remove(session)
                self.rooms.joined.pop(session, None)
                return session
        return None

    def session_ended(self, session: "Session") -> None:
        """A session is over: what it published, played and used ends with it, then the application hears of it."""
        if self.sessions.pop(session, 0) == 0:
            return
        for net_stream in list(session.streams.values()):
            self.streams.stop(session, net_stream, tell=False)
        session.streams.clear()
        stream_routes.forget(session)
        self.objects.forget(session)
        if session.accepted and not session.guest:
            self.depart(session)
        elif session.guest:
            self.durable.left(session)
        if not self.sessions:
            self.idle_since = self.clock()

    def depart(self, session: "Session") -> None:
        """A member is gone, and the application hears of it, once."""
        waits = self.waits("on_disconnect") or (self.waits("on_leave") and session in self.rooms.joined)

        def depart() -> None:
            if self.outputs.lost:
                return  # Its next owner sees to it.
            try:
                self.rooms.leave_all(session)
            except GroupLost:
                return
            if self.waits("on_disconnect"):
                hooks.tell(self, "on_disconnect", session.client)
            # Together with what that has changed: nothing waits between the two.
            self.durable.left(session)

        session.post(depart, waits=waits, always=True)

    def broadcast(self, name: str, args: tuple[Any, ...], room: str | None = None) -> None:
        """Call a method of every connected client, or of all in a room; the command is encoded once for each AMF version. In a
        transaction it is sent when that is committed, to those who are there by then."""
        encoded = {amf3: encode_command(name, 0, None, *args, amf3=amf3) for amf3 in (False, True)}
        now = current()
        if now is None:
            self._broadcast(encoded, room)
        else:
            now.after(lambda: self._broadcast(encoded, room))

    def _broadcast(self, encoded: dict[bool, Message], room: str | None) -> None:
        for session in self.members if room is None else self.rooms.sessions(room):
            if session.behind:
                session.close(f"{session.waiting} messages to it wait for the store already")
                continue
            message = encoded[session.amf3]
            self.send(session.edge, ToClient(session.number, message.type_id, 0, 0, message.payload), session)

    # Time and the end

    def tick(self, now: float) -> None:
        """Forget objects that nobody uses, and members that have not come back."""
        self.objects.tick(now)
        if (
            self._absent_until
            and now >= self._absent_until
            and self.started.is_set()
            and self.failure is None
        ):
            self._absent_until = 0.0
            self.durable.forget_guests()
            gone, self._absent = self._absent, []
            for session in gone:
                self.depart(session)

    def lingered(self, now: float) -> bool:
        """Whether it had no session for so long that it may stop. Where its application has started it stays while a job waits
        for its time, and, without a journal, while it holds persistent objects: they live here."""
        if self.idle_since is None or now - self.idle_since < self.config.group_linger_s:
            return False
        return self.failure is not None or (
            not self._absent
            and not self.durable.jobs
            and not (self.outputs.off and self.objects.holds_persistent)
        )

    def spawn(
        self, function: Callable[..., object], args: tuple[Any, ...], delay_s: float
    ) -> "gevent.Greenlet[..., None]":
        """A greenlet that ends with the application object."""
        return self.tasks.spawn(function, args, delay_s)

    def close(self, reason: str, code: StatusCode = StatusCode.CONNECT_CLOSED) -> None:
        """Close every session, end the application's greenlets and an `on_start` that has not returned, run `on_stop` when it
        has started and the others are done. `ending` is over when that is committed."""
        if self.stopped:
            return
        self.stopped = True
        for session in list(self.sessions):
            session.close(reason, code)
        self.objects.close()
        if not self.started.is_set():
            self.failure = self.failure or "the application instance was stopped before it had started"
            self.started.set()
            if self._starter is not None and self._starter is not gevent.getcurrent():
                self._starter.kill(block=False)
        self.tasks.end()
        if self._jobs_runner is not None:
            self._jobs_runner.kill(block=False)
        if self.waits("on_stop") or not self.outputs.off:
            self.ending = gevent.spawn(self._stop)

    def _stop(self) -> None:
        gevent.joinall(list(self._workers), timeout=_LAST_WORK_S)
        committer = self.host.committer
        try:
            if self.failure is None:
                if self.waits("on_stop"):
                    hooks.tell(self, "on_stop")
                committer.finish(self)
        except GroupLost:
            pass
        finally:
            committer.forget(self)
            self.outputs.give_up()

    def replace_application(self, policy: type[Application]) -> None:
        """Go on with another class of the application: the old object stops, the new one starts and is told of every member.
        Clients, objects, state and jobs stay, timers and greenlets end. Raises what the new one raises in `__init__` or
        `on_start`; then the old one starts again."""
        self.started.wait()
        if self.stopped or self.failure is not None:
            return  # Who comes next finds the new class.
        former, former_policy, former_blocking = self.application, self.policy, self._blocking
        application = policy(self)
        if self.waits("on_stop"):
            hooks.tell(self, "on_stop")
            if self.stopped:
                return
        self.tasks.end()
        self.tasks = Tasks(self)
        self.application, self.policy = application, policy
        self._blocking = self._overridden()
        self.objects.forget_application()
        try:
            hooks.run(self, application.on_start, ())
        except BaseException:
            self.tasks.end()
            self.tasks = Tasks(self)
            self.application, self.policy, self._blocking = former, former_policy, former_blocking
            self.objects.forget_application()
            hooks.tell(self, "on_start")
            raise
        if self.waits("on_resume"):
            for session in self.members:
                session.post(partial(hooks.tell, self, "on_resume", session.client), waits=True)

    def health(self) -> dict[str, Any]:
        """Its sessions, streams and objects."""
        return {
            "epoch": self.epoch,
            "sessions": len(self.sessions),
            "streams": self.streams.health(),
            "objects": self.objects.health(),
            **({} if self.outputs.off else {"journal": self.outputs.health()}),
        }
