"""The application of a scope as a guest of another group: it uses SharedObjects there, over a link to that group's origin, as a
client that is a guest does by an attachment of its edge.

A greenlet keeps it attached while objects are held: it finds the origin and attaches. When the link ends, or the group has
another origin, it attaches there as the same session and goes on: what it sent is numbered, kept until the group has applied it,
and sent again. Requests are kept until they are answered.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult, Event
from headwater_bus import object_traffic, traffic
from headwater_bus.codec import EnvelopeError
from headwater_bus.link import Link
from headwater_bus.logs import RateLimit, get_log
from headwater_bus.node import AssignError
from headwater_bus.rows import pack_rows
from headwater_rtmp.errors import RemoteProtocolError
from headwater_rtmp.message import OBJECTS, Message
from headwater_rtmp.shared_object import Event as ObjectEvent
from headwater_rtmp.shared_object import EventType, decode_shared_object, encode_shared_object

from headwater_origin.elsewhere.remote_object import RemoteObject
from headwater_origin.errors import ObjectUnavailable
from headwater_origin.objects.access import Access
from headwater_origin.objects.operations import SEND, Operation, Row

if TYPE_CHECKING:
    from headwater_origin.elsewhere.peers import Peers

_log = get_log("origin")
_LIMIT = RateLimit(10.0)
_RETRY_S, _LONGEST_RETRY_S = 0.05, 1.0
_ATTACH_S = 5.0
_MOST_SENT = 1000
"""Messages and requests that are not acknowledged; over it there is nothing to be had from the other group."""
_DECISIONS = (traffic.Attached, traffic.AttachRefused, traffic.CloseSession)
_UNKNOWN = "it is not known whether that was done"


class _Sent:
    """A message that the group has not acknowledged. `tried`: whether an origin may have got it."""

    __slots__ = ("envelope", "tried")

    def __init__(self, envelope: traffic.FromGuest | object_traffic.ObjectRequest) -> None:
        self.envelope, self.tried = envelope, False


class _Request:
    """A request that is not answered."""

    __slots__ = ("answer", "rows", "sent", "shared")

    def __init__(self, shared: RemoteObject, rows: Sequence[Row], sent: _Sent) -> None:
        self.shared, self.rows, self.sent = shared, rows, sent
        self.answer: AsyncResult[str] = AsyncResult()


class ScopeGuest:
    """See the module. `scope` is the application's, `group` the other one's."""

    def __init__(self, peers: "Peers", scope: str, group: str) -> None:
        self._peers, self._scope, self.group = peers, scope, group
        self.objects: dict[tuple[str, bool], RemoteObject] = {}
        self.trouble = "its origin is being looked for"
        """Why it is not attached, for error texts."""
        self.origin = ""
        """Where it is attached, or asks to be."""
        self._link: Link | None = None
        self._attached = False
        self._last_request = 0
        self._requests: dict[int, _Request] = {}
        self._begin_session()
        self._changed = Event()
        """Set when the attachment is accepted or over."""
        self._keeper: gevent.Greenlet[..., None] | None = None
        self._closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            traffic.Attached: self._accepted,
            traffic.AttachRefused: lambda refused: self.interrupt(refused.reason),
            traffic.CloseSession: self._sent_away,
            traffic.SessionState: self._state_told,
            traffic.ToClient: self._told,
            object_traffic.ObjectReply: self._reply,
        }

    def _begin_session(self) -> None:
        """A session that no origin knows yet."""
        self.number, self._session_id = self._peers.new_session()
        self._sent: deque[_Sent] = deque()
        self._last_number = 0
        self._applied = self._heard = 0
        self._state = b""
        self._known = False
        """Whether an origin has accepted it once."""

    # What the application's objects want

    def want(self, shared: RemoteObject) -> None:
        """An object is to be used, if it is not yet. Raises ObjectUnavailable when this is closed (another one is made for who
        asks for the object again), or when too much waits for its origin."""
        if self._closed:
            raise ObjectUnavailable(f"SharedObject {shared.name!r} of {self.group}: {self.trouble}")
        key = (shared.name, shared.persistent)
        if key not in self.objects:
            self._check_room()
            self.objects[key] = shared
            self.use(shared)
        if self._keeper is None:
            self._keeper = gevent.spawn(self._keep)

    def use(self, shared: RemoteObject) -> None:
        """Ask for an object, or ask again."""
        self._object_message(shared, EventType.USE)

    def let_go(self, shared: RemoteObject) -> None:
        """An object is not used any more; with the last one the attachment ends."""
        if self.objects.pop((shared.name, shared.persistent), None) is None:
            return
        shared.lost()
        if self.objects:
            self._object_message(shared, EventType.RELEASE)
        else:
            self.close("no object is used any more")

    def request(self, shared: RemoteObject, rows: Sequence[Row], within_s: float) -> str:
        """Ask for changes and wait for the answer: empty, or why not. Raises ObjectUnavailable."""
        self._check_room()
        number, request = self._ask(shared, rows)
        try:
            # Not get(timeout): a gevent.Timeout of the application's own must pass through.
            request.answer.wait(timeout=within_s)
            if request.answer.ready():
                return request.answer.get(block=False) or ""
            raise ObjectUnavailable(
                f"SharedObject {shared.name!r} of {self.group}: no answer within {within_s:g} s; "
                f"{_UNKNOWN if request.sent.tried else f'{self.trouble}; nothing was changed'}"
            )
        finally:
            self._requests.pop(number, None)
            if not request.sent.tried and request.sent in self._sent:
                self._sent.remove(request.sent)

    def post(self, shared: RemoteObject, rows: Sequence[Row]) -> None:
        """The same without waiting, to give back what was had."""
        if not self._closed:
            number, _ = self._ask(shared, rows)
            del self._requests[number]

    def _ask(self, shared: RemoteObject, rows: Sequence[Row]) -> tuple[int, _Request]:
        self._last_request += 1
        number = self._last_request
        request = self._requests[number] = _Request(shared, rows, self._request_message(number, shared, rows))
        return number, request

    # What it sends

    def _request_message(self, request: int, shared: RemoteObject, rows: Sequence[Row]) -> _Sent:
        return self._send(
            lambda number: object_traffic.ObjectRequest(
                self.number, request, shared.name, shared.persistent, number, pack_rows(rows)
            )
        )

    def _object_message(self, shared: RemoteObject, kind: EventType) -> None:
        made = encode_shared_object(shared.name, 0, shared.persistent, [ObjectEvent(kind)])
        self._send(
            lambda number: traffic.FromGuest(
                self.number, number, int(Access.NONE), [], made.type_id, 0, 0, made.payload
            )
        )

    def _send(self, make: Callable[[int], traffic.FromGuest | object_traffic.ObjectRequest]) -> _Sent:
        """Number a message, and send it where it is attached or asks to be; else it waits for that."""
        self._last_number += 1
        sent = _Sent(make(self._last_number))
        self._sent.append(sent)
        if self._link is not None:
            sent.tried = True
            self._link.send(sent.envelope)
        return sent

    def _check_room(self) -> None:
        if len(self._sent) >= _MOST_SENT:
            raise ObjectUnavailable(
                f"{self.group}: {_MOST_SENT} messages wait for its origin: {self.trouble}"
            )

    def applied(self, number: int, entry: int) -> None:
        """Its group has done what was sent up to `number`, and has told everything that is in its journal up to `entry`."""
        if self._attached:
            self._drop(number, entry)

    def _drop(self, number: int, entry: int) -> None:
        self._applied, self._heard = max(self._applied, number), max(self._heard, entry)
        while self._sent and self._sent[0].envelope.number <= number:
            self._sent.popleft()

    # The end

    def close(self, reason: str) -> None:
        """End it, for good."""
        self._closed = True
        keeper, self._keeper = self._keeper, None
        link = self._link
        self._end_session(reason)
        if link is not None and link.failure is None:
            link.send(traffic.Detach(self.number, reason))
        self.objects.clear()
        self._peers.ended(self)
        if keeper is not None and keeper is not gevent.getcurrent():
            keeper.kill(block=False)

    def _end_session(self, reason: str) -> None:
        """Its group does not know it any more."""
        self.interrupt(reason)
        self._peers.forget(self.number)
        for shared in self.objects.values():
            shared.lost()
        requests, self._requests = self._requests, {}
        for request in requests.values():
            error = f"SharedObject of {self.group}: {reason}; {_UNKNOWN}"
            request.answer.set_exception(ObjectUnavailable(error))

    # Keeping it attached

    def _keep(self) -> None:
        pause_s = _RETRY_S
        while self.objects:
            self._changed.clear()
            try:
                assignment = self._peers.assign(self.group)
                self._attach(assignment.origin, assignment.epoch)
            except (AssignError, ObjectUnavailable) as error:
                self.interrupt(str(error))
            except Exception as error:
                _log.error("internal error", scope=self._scope, group=self.group, error=repr(error))
                self.interrupt("internal error")
            self._changed.wait(timeout=_ATTACH_S)
            if self._attached:
                pause_s = _RETRY_S
                while self._attached:
                    self._changed.clear()
                    self._changed.wait()
            elif not self._changed.is_set():
                self.interrupt(f"no answer within {_ATTACH_S:g} s")
            if _LIMIT.passes(self.group):
                _log.warning("not attached", scope=self._scope, group=self.group, reason=self.trouble)
            gevent.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def _attach(self, origin: str, epoch: int) -> None:
        link = self._peers.link_to(origin)
        self._link, self._attached, self.origin = link, False, origin
        self.trouble = f"{origin} has not taken it yet; the other scope may wait for this one in its on_start"
        self._peers.register(self, link)
        objects = self._peers.replicas_of(self)
        link.send(
            traffic.Attach(
                self.number,
                self._session_id,
                self.group,
                epoch,
                "",
                0,
                self._known,
                0,
                self._applied,
                self._heard,
                self._state,
                objects,
                [],
                [],
                payload=self._scope.encode(),
            )
        )
        for sent in self._sent:
            sent.tried = True
            link.send(sent.envelope)

    def interrupt(self, reason: str) -> None:
        """It is attached no more, for now: who reads or changes waits until it is again."""
        link, self._link = self._link, None
        self._attached, self.origin = False, ""
        self.trouble = reason
        if link is not None:
            self._peers.unregister(self.number, link)
            for shared in self.objects.values():
                shared.interrupted()
        self._changed.set()

    # What its origin says

    def take(self, envelope: Any) -> None:
        """One envelope about this attachment. Before it is attached, what its origin says is from when it was so once before."""
        handler = self._handlers.get(type(envelope))
        if handler is None or not (self._attached or type(envelope) in _DECISIONS):
            return
        try:
            handler(envelope)
        except (EnvelopeError, RemoteProtocolError) as error:
            _log.error("answer of an origin not readable", group=self.group, error=str(error))

    def _accepted(self, envelope: traffic.Attached) -> None:
        self._attached = self._known = True
        self.trouble = "its content has not come yet"
        self._drop(envelope.number, 0)
        for number, request in list(self._requests.items()):
            # A lock is nothing that the journal knows: who waits for it asks again.
            lost = request.sent.envelope.number <= envelope.number
            if lost and request.rows and request.rows[0][0] == Operation.LOCK:
                request.sent = self._request_message(number, request.shared, request.rows)
        self._changed.set()

    def _sent_away(self, envelope: traffic.CloseSession) -> None:
        """It begins anew, as another session."""
        self._end_session(envelope.reason)
        self._begin_session()
        for shared in self.objects.values():
            self.use(shared)

    def _state_told(self, envelope: traffic.SessionState) -> None:
        self._state = envelope.state

    def _told(self, envelope: traffic.ToClient) -> None:
        """A message as for a client: an object is refused, the attachment is and is going to be closed, or messages to the users
        of an object that its replica has got over."""
        message = Message(envelope.type_id, 0, 0, envelope.payload)
        if message.type_id not in OBJECTS:
            return
        told = decode_shared_object(message)
        shared = self.objects.get((told.name, told.persistent))
        if shared is None:
            return
        codes = [event.code for event in told.events if event.type == EventType.STATUS]
        if codes:
            shared.refused(codes[0])
        if shared.watchers is not None:
            said = [(SEND, "", event.value or b"") for event in told.events if event.type == SEND]
            shared.watchers.observe(said, own=False)

    def _reply(self, envelope: object_traffic.ObjectReply) -> None:
        request = self._requests.get(envelope.request)
        if request is not None:
            request.answer.set(envelope.error)
