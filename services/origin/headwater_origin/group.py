"""A group on this origin: a scope with its application object, sessions, streams and SharedObjects, or, where an application
spreads these, one object or one stream of it, without application code."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from headwater_bus.logs import get_log
from headwater_bus.sockets import SLICE_S, pause
from headwater_store import Fenced, StoreError

from headwater_origin import hooks
from headwater_origin.application import CHANGE_HOOKS, Application, overridden
from headwater_origin.application_run import ApplicationRun
from headwater_origin.durable.absent import Absent, restore_absent
from headwater_origin.durable.content import Durable
from headwater_origin.durable.journal import JournalError, replay
from headwater_origin.durable.outputs import Outputs
from headwater_origin.durable.roaming import Roaming
from headwater_origin.durable.settling import settle
from headwater_origin.errors import GroupLost, StoreUnavailable
from headwater_origin.held import Held
from headwater_origin.host import Host
from headwater_origin.objects.table import SharedObjects
from headwater_origin.rooms import Rooms
from headwater_origin.streams import routes as stream_routes
from headwater_origin.streams.names import Streams
from headwater_origin.turns import Crew, Inbox

if TYPE_CHECKING:
    from headwater_origin.session import Session


_log = get_log("origin")
_LAST_WORK_S = 5.0
"""How long `on_stop` waits for hooks and methods that still run."""
_FIRST_ATTACH_S = 1.0


class GroupLoad:
    """What a group has cost since it began here: messages and payload bytes, in and out."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = self.bytes = 0


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
        self.journaled = not host.committer.off
        """Whether anything outlives this origin."""
        self.load = GroupLoad()
        self.absent = Absent()
        """Sessions that the journal knows, or whose link is lost, and that have not come back yet."""
        self.outputs = Outputs(self, host.committer)
        self.journal = self.outputs.journal
        self.send = self.outputs.send
        self.reply = self.outputs.reply
        self.flushed = self.outputs.flushed
        self.sessions: dict[Session, None] = {}
        """All that are attached, also those that the application has not accepted yet."""
        self.roaming = Roaming()
        """Those of them that may go from edge to edge."""
        self.by_id: dict[str, Session] = {}
        """The same by session id."""
        self.held: Held | None = None
        """What edges say about it while it is being moved; None: it is not."""
        self.streams = Streams(self)
        self.objects = SharedObjects(self)
        # One that was just granted has at least so long until its first client attaches.
        self.idle_since: float | None = self.clock() + max(0.0, _FIRST_ATTACH_S - self.config.group_linger_s)
        self._gathers_until = self.clock() + self.config.resume_grace_s
        self.stopped = False
        self.started = Event()
        """Set when `on_start` has returned or failed."""
        self.early: deque[Inbox] = deque()
        """Of the sessions that wait for that."""
        self.failure: str | None = None
        """Why the application did not start."""
        self._starter: gevent.Greenlet[..., None] | None = None
        """Runs `on_start`."""
        self.app = ApplicationRun(self)
        self.durable = Durable(self)
        self.rooms = Rooms(self)
        self._workers: set[gevent.Greenlet[..., None]] = set()
        """Those in which application code runs for nobody in particular."""
        self.crew = Crew()
        """Runs it for sessions."""
        self.ending: gevent.Greenlet[..., None] | None = None
        """Runs `on_stop`, after everything else."""
        self.host_application(None if spread else policy(self))

    @property
    def gathers(self) -> bool:
        """Whether it has just begun here: sessions may come that had it at another origin, with what they publish."""
        return self.clock() < self._gathers_until

    def host_application(self, application: Application | None) -> None:
        """From now on this is the application object."""
        self.application = application
        if application is not None:
            self.policy = type(application)
        self._overridden = overridden(application)
        self.asks_changes = not self._overridden.isdisjoint(CHANGE_HOOKS)
        """Whether the application looks at each change of a SharedObject."""
        self.spread_objects = application is not None and self.policy.shared_objects == "spread"
        """Whether each SharedObject of this scope is a group of its own."""
        self.spread_streams = application is not None and self.policy.streams == "spread"
        """Whether each stream of this scope is a group of its own."""

    def waits(self, hook: str) -> bool:
        """Whether a hook is application code, which may wait and so needs a greenlet."""
        return hook in self._overridden

    @property
    def stalled(self) -> bool:
        """Whether changes are refused, as the store has been away too long or too much waits for it."""
        return self.outputs.stalled

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
            self.durable.jobs.begin()
        self._look_idle()
        self.started.set()
        paused_at = time.monotonic()
        while self.early:
            if time.monotonic() - paused_at > SLICE_S:
                pause()
                paused_at = time.monotonic()
            self.early.popleft().release()

    def _restore(self) -> None:
        replay(self.host.committer.open(self), self.durable.apply)
        restore_absent(self, self.clock() + self.config.resume_grace_s)
        if self.absent:
            self.idle_since = None
            self.counters.groups_taken += 1

    def fenced(self, epoch: int) -> None:
        """Another origin has the group, at this epoch: what is not committed yet was in vain."""
        if self.outputs.lost:
            return
        _log.error("group lost to another origin", group=self.name, epoch=self.epoch, theirs=epoch)
        self.counters.groups_lost += 1
        self.outputs.give_up()
        self.host.committer.forget(self)
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
        """The sessions that are connected, also those that are to come back; guests are none."""
        here = self.attached
        if self.absent:
            here += [session for session in self.absent.values() if not session.guest]
        return here

    @property
    def attached(self) -> "list[Session]":
        """The members that are here."""
        return [session for session in self.sessions if session.accepted and not session.guest]

    def writable(self) -> None:
        """Raise StoreUnavailable while changes are refused, GroupLost when the group has ended here."""
        if self.outputs.lost:
            raise self.outputs.loss()
        if self.outputs.stalled:
            raise StoreUnavailable

    def add(self, session: "Session") -> None:
        """A session begins; the application has not seen it yet. Its former self, which may be attached still over a link that is
        not known to be lost, is suspended."""
        before = self.by_id.get(session.session_id)
        if before is not None:
            if before.edge is session.edge:
                before.edge.forget(before)
            else:
                before.edge.taken(before, before.number, session.fence)
            self.suspend(before, "its edge attaches it again")
        self.sessions[session] = None
        if session.stored is not None:
            self.roaming.add(session, self.outputs.settled)
        self.by_id[session.session_id] = session
        self.idle_since = None

    def fence_of(self, session_id: str) -> int:
        """Of the edge that has a session; 0 where it may be any."""
        session = self.by_id.get(session_id) or self.absent.get(session_id)
        return 0 if session is None else session.fence

    def _remove(self, session: "Session") -> bool:
        self.roaming.pop(session, None)
        if self.sessions.pop(session, 0) == 0:
            return False
        if self.by_id.get(session.session_id) is session:
            del self.by_id[session.session_id]
        return True

    def session_ended(self, session: "Session", lost: bool = False) -> None:
        """A session is over: what it published, played and used ends with it, then the application hears of it. What one
        published that was `lost` may go on for the publisher's grace."""
        if not self._remove(session):
            return
        for net_stream in list(session.streams.values()):
            self.streams.stop(session, net_stream, tell=False, lost=lost)
        session.streams.clear()
        stream_routes.forget(session)
        self.objects.forget(session)
        if session.accepted and not session.guest:
            self.depart(session)
        elif session.guest:
            self.durable.left(session)
        self._look_idle()

    def _look_idle(self) -> None:
        unused = not self.sessions and (self.failure is not None or not self.absent)
        if unused and self.idle_since is None:
            self.idle_since = self.clock()

    # Sessions whose link is lost

    def suspend(self, session: "Session", reason: str) -> None:
        """The link of a session is lost: with a journal it is a member still, and may come back over another link. Without, or
        where it was no member yet, it is over."""
        if not (self.journaled and session.accepted):
            session.ended(reason, lost=True)
            return
        self._remove(session)
        edge, until = session.edge, self.clock() + self.config.resume_grace_s
        taken = self.outputs.taken_by(edge)
        if session.stored is not None:
            taken = min(taken, session.stored.needed)
        self.absent.add(session, until, taken, edge.link.boot)
        session.suspend()

    def bounce(self, session: "Session", reason: str) -> None:
        """Have its edge attach a session anew, and send what is not done."""
        self.counters.attaches_refused += 1
        session.edge.refuse(session.number, self.name, reason, session.epoch)
        session.edge.forget(session)
        self.suspend(session, reason)

    def suspended(self, session: "Session") -> None:
        """Nothing of a suspended session runs any more: streams and objects do without it."""
        if self.stopped and self.outputs.lost:
            return
        self.streams.suspend(session)
        self.objects.suspend(session)
        if session.session_id not in self.absent:
            self.gone(session)  # It was told to go meanwhile.

    def awaited(self, session: "Session") -> bool:
        """Whether something of the former self of a session runs still."""
        before = self.absent.get(session.session_id)
        return before is not None and before.busy

    def returns(self, session: "Session") -> "Session | None":
        """The former self of a session, which is not absent any more; None: there is none. Waits for what runs of it."""
        before = self.absent.get(session.session_id)
        if before is None:
            return None
        before.successor = session
        before.settled()
        before.successor = None
        if session.closed:
            return None
        before = self.absent.pop(session.session_id)
        if before is not None:
            rooms = self.rooms.joined.pop(before, None)
            if rooms:
                self.rooms.joined[session] = rooms
        return before

    def sessions_gone(self, session_ids: list[str]) -> None:
        """Sessions have ended while their edge had no link here. One that goes from edge to edge may be at another, or on its
        way: if not, its time will be up."""
        for session_id in session_ids:
            session = self.by_id.get(session_id) or self.absent.get(session_id)
            if session is None or session.fence:
                continue
            if session.absent:
                self.gone(session)
            else:
                session.edge.forget(session)
                session.ended("the client is gone")

    def gone(self, session: "Session") -> None:
        """An absent session does not come back."""
        self.absent.pop(session.session_id)
        if not session.closed:
            return  # `suspended` sees to it, when what runs of it has ended.
        self.streams.gone(session)
        self.objects.gone(session)
        if session.guest:
            self.durable.left(session)
        else:
            self.depart(session)
        self._look_idle()

    def ended_before(self, guest: "Session") -> None:
        """A guest begins anew: nothing of its former self is left."""
        self.streams.gone(guest)
        self.objects.gone(guest)
        self.durable.left(guest)

    def expel(self, session: "Session", reason: str) -> None:
        """Close an absent member: its edge hears of it when it attaches it again."""
        _log.info("absent client closed", group=self.name, session=session.session_id, reason=reason)
        self.gone(session)

    def depart(self, session: "Session") -> None:
        """A member is gone, and the application hears of it, once."""
        waits = self.waits("on_disconnect") or (self.waits("on_leave") and session in self.rooms.joined)

        def depart() -> None:
            if self.outputs.lost:
                return  # Its next owner sees to it.
            session.absent = False
            try:
                self.rooms.leave_all(session)
            except GroupLost:
                return
            try:
                if self.waits("on_disconnect"):
                    hooks.tell(self, "on_disconnect", session.client)
            finally:
                # Together with what that has changed: nothing waits between the two.
                self.durable.left(session)

        session.post(depart, waits=waits, always=True)

    # Time and the end

    def tick(self, now: float) -> None:
        """Forget objects that nobody uses, and sessions that have not come back."""
        serves = self.started.is_set() and self.failure is None and self.held is None
        gone: list[Session] = []
        if serves:
            gone = self.absent.due(now, self.host.lives, self.config.living_edge_grace_s)
            if not self.outputs.off:
                gone += settle(self)
        self.objects.tick(now)
        if not serves:
            return
        for session in gone:
            self.gone(session)
        self.streams.tick(now)

    def lingered(self, now: float) -> bool:
        """Whether it had no session for so long that it may stop. Where its application has started it stays while a job waits
        for its time, and, without a journal, while it holds persistent objects: they live here."""
        if self.idle_since is None or now - self.idle_since < self.config.group_linger_s:
            return False
        return self.failure is not None or (
            not self.absent
            and not self.durable.jobs
            and not (self.outputs.off and self.objects.holds_persistent)
        )

    def spawn(
        self, function: Callable[..., object], args: tuple[Any, ...], delay_s: float
    ) -> "gevent.Greenlet[..., None]":
        """A greenlet that ends with the application object."""
        return self.app.tasks.spawn(function, args, delay_s)

    def close(self, reason: str, work_s: float = _LAST_WORK_S) -> None:
        """It has no client any more, or goes on elsewhere: end the application's greenlets and an `on_start` that has not
        returned, run `on_stop` when it has started and the others are done, but for at most `work_s`. Sessions that there still
        are have what is under way committed and said, then they end here without a word. `ending` is over when all that is
        done."""
        if self.stopped:
            return
        self.stopped = True
        if not self.started.is_set():
            self.failure = self.failure or "the application instance was stopped before it had started"
        if not self.journaled or self.outputs.lost or self.failure is not None:
            self._let_go(reason)
        elif self.held is None and self.sessions:
            self.held = Held(self, self.config.move_held_bytes)
        if not self.started.is_set():
            self.started.set()
            if self._starter is not None and self._starter is not gevent.getcurrent():
                self._starter.kill(block=False)
            while self.early:
                self.early.popleft().release()
        self.app.end_tasks()
        if self.waits("on_stop") or not self.outputs.off:
            self.ending = gevent.spawn(self._stop, reason, work_s)

    def _let_go(self, reason: str) -> None:
        """Forget all sessions here: without a journal they are over, otherwise they go on elsewhere."""
        for session in list(self.sessions):
            if not session.accepted:
                session.send_away(reason)
                continue
            session.edge.drop(session)
            if self.journaled or self.outputs.lost:
                session.abandon()
            else:
                session.ended(reason)
        self.sessions.clear()
        self.by_id.clear()
        self.objects.abandon()
        self.streams.abandon()

    def quiesce(self, within_s: float) -> None:
        """Wait for hooks and methods that run."""
        until = time.monotonic() + within_s
        self.crew.wait(within_s)
        workers = [worker for worker in self._workers if worker is not gevent.getcurrent()]
        gevent.joinall(workers, timeout=max(0.0, until - time.monotonic()))

    def _stop(self, reason: str, work_s: float) -> None:
        self.quiesce(work_s)
        committer = self.host.committer
        try:
            if self.failure is None:
                self.app.stop()
                committer.finish(self, keeps=bool(self.sessions or self.absent))
        except GroupLost:
            pass
        finally:
            committer.forget(self)
            self.outputs.give_up()
            self._let_go(reason)

    def health(self) -> dict[str, Any]:
        """Its sessions, streams and objects."""
        return {
            "epoch": self.epoch,
            "sessions": len(self.sessions),
            "absent": len(self.absent),
            "streams": self.streams.health(),
            "objects": self.objects.health(),
            **({} if self.outputs.off else {"journal": self.outputs.health()}),
        }
