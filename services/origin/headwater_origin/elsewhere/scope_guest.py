"""The application of a scope as a guest of another group: it uses SharedObjects there, over a link to that group's origin, as a
client that is a guest does by an attachment of its edge.

A greenlet keeps it attached while objects are held: it finds the origin, attaches, uses each object; when the link or the
attachment ends it begins again, and the content comes anew.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult, Event
from headwater_bus import traffic
from headwater_bus.codec import EnvelopeError
from headwater_bus.link import Link
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.node import AssignError
from headwater_bus.rows import pack_rows
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import Message
from headwater_rtmp.shared_object import Event as ObjectEvent
from headwater_rtmp.shared_object import EventType, decode_shared_object, encode_shared_object

from headwater_origin.elsewhere.remote_object import RemoteObject
from headwater_origin.errors import ObjectUnavailable
from headwater_origin.objects.access import Access
from headwater_origin.objects.operations import Row

if TYPE_CHECKING:
    from headwater_origin.elsewhere.peers import Peers

_log = get_log("origin")
_LIMIT = RateLimit(10.0)
_RETRY_S, _LONGEST_RETRY_S = 0.05, 1.0
_ATTACH_S = 5.0
_GONE = "the link to its origin was lost; it is not known whether that was done"


class ScopeGuest:
    """See the module. `scope` is the application's, `group` the other one's."""

    def __init__(self, peers: "Peers", scope: str, group: str) -> None:
        self._peers, self._scope, self.group = peers, scope, group
        self.objects: dict[tuple[str, bool], RemoteObject] = {}
        self.trouble = "its origin is being looked for"
        """Why it is not attached, for error texts."""
        self._link: Link | None = None
        self._number = 0
        self._attached = False
        self._sent = 0
        self._last_request = 0
        self._requests: dict[int, AsyncResult[str]] = {}
        self._changed = Event()
        """Set when the attachment is accepted or over."""
        self._keeper: gevent.Greenlet[..., None] | None = None
        self._closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            traffic.Attached: self._accepted,
            traffic.AttachRefused: lambda refused: self._over(refused.reason),
            traffic.CloseSession: self._sent_away,
            traffic.ToClient: self._told,
            traffic.ObjectReply: self._reply,
        }

    # What the application's objects want

    def want(self, shared: RemoteObject) -> None:
        """An object is to be used, if it is not yet. Raises ObjectUnavailable when this is closed: another one is made for who
        asks for the object again."""
        if self._closed:
            raise ObjectUnavailable(f"SharedObject {shared.name!r} of {self.group}: {self.trouble}")
        key = (shared.name, shared.persistent)
        if key not in self.objects:
            self.objects[key] = shared
            self.use(shared)
        if self._keeper is None:
            self._keeper = gevent.spawn(self._keep)

    def use(self, shared: RemoteObject) -> None:
        """Ask for an object, or ask again."""
        if self._attached:
            self._object_message(shared, EventType.USE)

    def let_go(self, shared: RemoteObject) -> None:
        """An object is not used any more; with the last one the attachment ends."""
        if self.objects.pop((shared.name, shared.persistent), None) is None:
            return
        if self._attached:
            self._object_message(shared, EventType.RELEASE)
        shared.lost()
        if not self.objects:
            self.close("no object is used any more")

    def request(self, shared: RemoteObject, rows: Sequence[Row], within_s: float) -> str:
        """Ask for changes and wait for the answer: empty, or why not. Raises ObjectUnavailable."""
        answer: AsyncResult[str] = AsyncResult()
        request = self._send_request(shared, rows)
        if request == 0:
            raise ObjectUnavailable(
                f"SharedObject {shared.name!r} of {self.group}: {self.trouble}; nothing was changed"
            )
        self._requests[request] = answer
        try:
            # Not get(timeout): a gevent.Timeout of the application's own must pass through.
            answer.wait(timeout=within_s)
            if not answer.ready():
                raise ObjectUnavailable(
                    f"SharedObject {shared.name!r} of {self.group}: no answer within {within_s:g} s; "
                    "it is not known whether that was done"
                )
            return answer.get(block=False) or ""
        finally:
            self._requests.pop(request, None)

    def post(self, shared: RemoteObject, rows: Sequence[Row]) -> None:
        """The same without waiting, if it is attached."""
        self._send_request(shared, rows)

    def _send_request(self, shared: RemoteObject, rows: Sequence[Row]) -> int:
        if self._link is None or not self._attached:
            return 0
        self._last_request += 1
        self._link.send(
            traffic.ObjectRequest(
                self._number, self._last_request, shared.name, shared.persistent, pack_rows(rows)
            )
        )
        return self._last_request

    def _object_message(self, shared: RemoteObject, kind: EventType) -> None:
        assert self._link is not None
        self._sent += 1
        made = encode_shared_object(shared.name, 0, shared.persistent, [ObjectEvent(kind)])
        self._link.send(
            traffic.FromGuest(
                self._number, self._sent, int(Access.NONE), [], made.type_id, 0, 0, made.payload
            )
        )

    def close(self, reason: str) -> None:
        """End it, for good."""
        self._closed = True
        keeper, self._keeper = self._keeper, None
        for shared in self.objects.values():
            shared.lost()
        self.objects.clear()
        self._over(reason)
        self._peers.ended(self)
        if keeper is not None and keeper is not gevent.getcurrent():
            keeper.kill(block=False)

    # Keeping it attached

    def _keep(self) -> None:
        pause_s = _RETRY_S
        while self.objects:
            self._changed.clear()
            try:
                assignment = self._peers.assign(self.group)
                self._attach(assignment.origin, assignment.epoch)
            except (AssignError, ObjectUnavailable) as error:
                self._over(str(error))
            except Exception as error:
                _log.error("internal error", scope=self._scope, group=self.group, error=repr(error))
                self._over("internal error")
            self._changed.wait(timeout=_ATTACH_S)
            if self._attached:
                pause_s = _RETRY_S
                self._changed.clear()
                self._changed.wait()
            elif not self._changed.is_set():
                self._over(f"no answer within {_ATTACH_S:g} s")
            if _LIMIT.passes(self.group):
                _log.warning("not attached", scope=self._scope, group=self.group, reason=self.trouble)
            gevent.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def _attach(self, origin: str, epoch: int) -> None:
        link = self._peers.link_to(origin)
        self._link, self._attached, self._sent = link, False, 0
        self.trouble = f"{origin} has not taken it yet; the other scope may wait for this one in its on_start"
        self._number, session_id = self._peers.register(self, link)
        link.send(
            traffic.Attach(self._number, session_id, self.group, epoch, "", 0, False, 0, self._scope.encode())
        )

    def _over(self, reason: str) -> None:
        """It is not attached any more: requests fail, objects wait."""
        link, self._link = self._link, None
        attached, self._attached = self._attached, False
        self.trouble = reason
        if link is not None:
            self._peers.unregister(self._number, link)
            if link.failure is None:
                link.send(traffic.Detach(self._number, reason))
        if attached:
            for shared in self.objects.values():
                shared.lost()
        for answer in self._requests.values():
            answer.set_exception(ObjectUnavailable(f"SharedObject of {self.group}: {_GONE}"))
        self._requests.clear()
        self._changed.set()

    def link_lost(self, reason: str) -> None:
        """The link is down."""
        self._over(f"its origin is lost: {reason}")

    # What its origin says

    def take(self, envelope: Any) -> None:
        """One envelope about this attachment, or an object of it."""
        handler = self._handlers.get(type(envelope))
        if handler is None:
            return
        try:
            handler(envelope)
        except (EnvelopeError, RemoteProtocolError) as error:
            _log.error("answer of an origin not readable", group=self.group, error=str(error))
            self._over(str(error))

    def _accepted(self, envelope: traffic.Attached) -> None:
        self._attached = True
        self.trouble = "its content has not come yet"
        self._changed.set()
        for shared in self.objects.values():
            self._object_message(shared, EventType.USE)

    def _sent_away(self, envelope: traffic.CloseSession) -> None:
        self._over(envelope.reason)

    def _told(self, envelope: traffic.ToClient) -> None:
        """A message as for a client: an object is refused, or the attachment is, and is going to be closed."""
        message = Message(envelope.type_id, 0, 0, envelope.payload)
        if message.type_id not in (16, 19):
            return
        told = decode_shared_object(message)
        shared = self.objects.get((told.name, told.persistent))
        codes = [event.code for event in told.events if event.type == EventType.STATUS]
        if shared is not None and codes:
            shared.refused(codes[0])

    def _reply(self, envelope: traffic.ObjectReply) -> None:
        answer = self._requests.get(envelope.request)
        if answer is not None:
            answer.set(envelope.error)
