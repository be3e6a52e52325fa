"""One client's NetConnection as the origin keeps it: its message streams, its objects, what waits for its application code."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent import getcurrent
from headwater_bus.logs import get_log
from headwater_bus.traffic import CloseSession, SessionState
from headwater_rtmp.command import Command, encode_command
from headwater_rtmp.message import Message
from headwater_rtmp.status import StatusCode, status

from headwater_origin import hooks
from headwater_origin.client import Client
from headwater_origin.client_calls import ClientCalls
from headwater_origin.durable.roaming import Stored
from headwater_origin.durable.said import Said, to_client
from headwater_origin.durable.values import NO_VALUES, Changes, Values, pack_values, unpack_values
from headwater_origin.edge_port import EdgePort
from headwater_origin.errors import GroupLost
from headwater_origin.farewell import refuse, told
from headwater_origin.session_state import pack_state
from headwater_origin.turns import Inbox

if TYPE_CHECKING:
    from headwater_origin.bandwidth import Measurement
    from headwater_origin.durable.members import Member
    from headwater_origin.group import Group
    from headwater_origin.objects.access import Access
    from headwater_origin.objects.table import SharedObject
    from headwater_origin.streams.net_stream import NetStream

_log = get_log("origin")
_CALLS_PER_EPOCH = 1_000_000


class Session:
    """A client. Its messages are handled in order: at once when nothing can wait, otherwise by a greenlet that lives while
    there is something to do."""

    __slots__ = (
        "_attributes",
        "_calls",
        "_calls_from",
        "_client",
        "_full_at",
        "_inbox",
        "_state",
        "_state_due",
        "_state_said",
        "_streams",
        "absent",
        "accepted",
        "address",
        "applied",
        "bandwidth",
        "bandwidth_done",
        "closed",
        "connect_transaction",
        "departed",
        "done",
        "edge",
        "epoch",
        "group",
        "guest",
        "guest_streams",
        "handler",
        "handling",
        "member",
        "number",
        "object_encoding",
        "objects",
        "proof",
        "properties",
        "received",
        "scope",
        "session_id",
        "stored",
        "successor",
        "unfinished",
        "unheard",
        "waiting",
    )

    def __init__(
        self,
        edge: EdgePort,
        number: int,
        session_id: str,
        group: "Group",
        address: str,
        object_encoding: int,
        guest: bool = False,
        scope: str = "",
    ) -> None:
        self.edge, self.number, self.group = edge, number, group
        self.stored: Stored | None = None
        """Of one that may go from edge to edge."""
        self.proof = b""
        """A digest of what shows who the client is."""
        self.epoch = group.epoch
        """At which its edge has asked for the group."""
        self.guest, self.scope = guest, scope
        """Whether its home is another group, which decides for it; `scope`: it is that scope's application."""
        self.session_id, self.address, self.object_encoding = session_id, address, object_encoding
        self.member: Member | None = None
        """What it is as a member; None: of a guest."""
        self.properties: dict[str, Any] | None = None
        """What its connect command says of the client; None: it is to be read when somebody asks, see `connect_properties`."""
        self.accepted = False
        """Whether the application has accepted the connect."""
        self.closed = False
        """Whether the client is gone or being closed; nothing it still sends counts."""
        self.absent = False
        """Whether its link is lost: it is a member until it comes back, as another Session, or its time is up."""
        self.successor: Session | None = None
        """Which waits for what still runs here."""
        self.unfinished = False
        """Whether a message was not handled to its end, as the group was not this origin's any more."""
        self.departed = False
        """Whether its rooms have heard that it is gone; it joins none any more."""
        self.connect_transaction = 1.0
        """Of its connect (1: RTMP 1.0, 7.2.1.1), which is answered when the application has decided, or by `close`."""
        self.received = 0
        """Number of its last message."""
        self.handling = 0
        """Number of the message that is being handled, 0: none is."""
        self.handler: object | None = None
        """The greenlet that handles it."""
        self.applied = 0
        """Number of its last message that was applied before it came here: up to it, none is handled."""
        self.done = 0
        """Number of its last message that is done and committed: its edge need not keep it."""
        self.waiting = 0
        """How much of what is said to it, and of what it did, waits for the journal."""
        self.unheard: list[Said] | None = None
        """What it was told for its messages since the last one that journaled something, and may not have heard."""
        self._state = b""
        """The SessionState that its edge has, or is going to have."""
        self._state_due = False
        self._state_said: Said | None = None
        """Where on the link that is."""
        self.bandwidth_done = False
        self.bandwidth: Measurement | None = None
        """Of the bandwidth, the one that is under way."""
        self.guest_streams: set[tuple[int, str, bool]] | None = None
        """What is published (True) and played elsewhere: message stream id and group."""
        self._attributes: Values | None = None
        self._client: Client | None = None
        self.objects: dict[SharedObject, Access] | None = None
        self._streams: dict[int, NetStream] | None = None
        self._inbox: Inbox | None = None
        self._calls: ClientCalls | None = None
        self._calls_from = 0
        """Transaction ids of calls to it are above this one."""
        self._full_at = 0.0

    @property
    def amf3(self) -> bool:
        """Whether the client speaks AMF3 (`objectEncoding` 3)."""
        return self.object_encoding == 3

    @property
    def client(self) -> Client:
        """The application's view of it, which is the same object from the first time on."""
        if self._client is None:
            self._client = Client(self)
        return self._client

    @property
    def attributes(self) -> Values:
        """What the application keeps of it."""
        if self._attributes is None:
            group = self.group
            self._attributes = Values(
                group,
                f"attributes of client {self.session_id}",
                group.config.attributes_bytes,
                self._attributes_changed,
            )
        return self._attributes

    def pack_attributes(self) -> bytes:
        """As they are journaled."""
        return NO_VALUES if self._attributes is None else pack_values(self._attributes.raw)

    def restore(self, member: "Member") -> None:
        """It was a member before: take what the journal says of it."""
        self.member = member
        if member.attributes != NO_VALUES:
            self.attributes.apply(dict(unpack_values(member.attributes)))

    def follows(self, former: "Session") -> None:
        """It is the same session over another link: application code goes on with the client that it knows."""
        self.member, self.properties = former.member, former.properties
        self._client, self._attributes = former._client, former._attributes
        if self._client is not None:
            self._client.follow(self)
        if self._attributes is not None:
            self._attributes.changed = self._attributes_changed
        self.bandwidth_done = former.bandwidth_done
        self.calls_above(former)

    def calls_above(self, former: "Session | None") -> None:
        """What the client still answers to calls of a former origin or link must answer none of this one's."""
        self._calls_from = self.group.epoch * _CALLS_PER_EPOCH
        if former is not None and former._calls is not None:
            self._calls_from = max(self._calls_from, former._calls.last_transaction)

    def _attributes_changed(self, changes: Changes) -> None:
        self.group.durable.attributes_changed(self)

    # To the client

    def send(self, message: Message) -> None:
        """Send a message to this client alone, when everything that the group has journaled so far is committed."""
        self.group.send(self.edge, to_client(self.number, message), self)

    def reply(self, message: Message) -> None:
        """Send a message that depends on nothing journaled: it waits only behind others of this client."""
        self.group.reply(self, to_client(self.number, message))

    def ask(self, message: Message) -> None:
        """Send a call to the client that somebody waits for."""
        self.group.outputs.ask(self, to_client(self.number, message))

    def send_command(
        self, name: str, transaction: float, command_object: Any, *args: Any, stream_id: int = 0
    ) -> None:
        """Send a command in the client's AMF version. Raises LocalProtocolError for a value without an AMF form."""
        self.send(
            encode_command(name, transaction, command_object, *args, stream_id=stream_id, amf3=self.amf3)
        )

    def reply_command(
        self, name: str, transaction: float, command_object: Any, *args: Any, stream_id: int = 0
    ) -> None:
        """`send_command` as `reply` does it: for answers that depend on nothing journaled."""
        self.reply(
            encode_command(name, transaction, command_object, *args, stream_id=stream_id, amf3=self.amf3)
        )

    def send_status(self, stream_id: int, info: dict[str, Any]) -> None:
        """onStatus on a message stream (RTMP 1.0, 7.2.2), as `reply` does it."""
        self.reply_command("onStatus", 0, None, info, stream_id=stream_id)

    @property
    def behind(self) -> bool:
        """Whether as much waits to be said to it as may, with the store away: then it is closed rather than told still more."""
        return self.waiting >= self.group.config.inbox_messages and self.group.outputs.stalled

    @property
    def calls(self) -> ClientCalls:
        """Calls to the client that wait for its answer."""
        if self._calls is None:
            self._calls = ClientCalls(self, self._calls_from)
        return self._calls

    def asked_for(self, command: Command) -> bool:
        """Whether a command answers a call that waits for it."""
        return self._calls is not None and self._calls.asked_for(command)

    def answered(self, command: Command) -> None:
        """`_result` or `_error` of the client."""
        if self._calls is not None:
            self._calls.answered(command)

    # Closing

    def close(self, reason: str, code: StatusCode = StatusCode.CONNECT_CLOSED) -> None:
        """Tell the client why, close it, and forget it here. One that is not accepted yet gets the answer to its connect."""
        if self.closed and not self.absent:
            return
        if self.absent:
            self.group.expel(self, told(reason))
        elif self.group.outputs.lost:
            self.send_away("another origin has it")
        elif self.accepted:
            self.send_status(0, status(code, told(reason)))
            self.drop(reason)
        else:
            refuse(self, reason, StatusCode.CONNECT_FAILED if code == StatusCode.CONNECT_CLOSED else code)

    def close_for(self, reason: str) -> None:
        """Close it for what it sent, with a log line."""
        _log.warning(
            "client closed",
            group=self.group.name,
            session=self.session_id,
            address=self.address,
            reason=reason,
        )
        self.close(reason)

    def send_away(self, reason: str) -> None:
        """Have the edge look for the origin that has the group; the client notices nothing."""
        if not self.closed:
            self.group.counters.attaches_refused += 1
            self.edge.refuse(self.number, self.group.name, reason, self.epoch)
            self.edge.forget(self)
            self.ended(reason)

    def drop(self, reason: str) -> None:
        """Close the client without another word."""
        if not self.closed:
            text = told(reason)
            self.group.reply(self, CloseSession(self.number, text))
            self.ended(text)

    def ended(self, reason: str, lost: bool = False) -> None:
        """The client is gone: calls to it fail, its group lets go of what it had. `lost`: without a goodbye, and
        nobody here has closed it."""
        if self.closed:
            return
        self.closed = True
        if self._calls is not None:
            self._calls.client_left(reason)
        self.group.session_ended(self, lost)

    # Its link

    @property
    def fence(self) -> int:
        """Which shows that its edge has it; 0: no other can have it."""
        return 0 if self.stored is None else self.stored.fence

    def lacks(self, number: int, position: int | None) -> bool:
        """Whether what answers its message `number`, sent at this position of its link, may not have come to where it cannot be
        lost any more."""
        if self.stored is not None:
            return self.stored.lacks(number)
        return position is None or position > self.edge.link.acknowledged

    def suspend(self) -> None:
        """Its link is lost. What runs goes on to its end as if nothing were; what waits comes again over another link. `closed`
        is set when that has ended, and then the group hears of it."""
        self.absent = True
        if self._inbox is not None:
            self._inbox.keep_always()
        if self._calls is not None:
            self._calls.link_lost()
        if self._inbox is None:
            self._suspended()

    def _suspended(self) -> None:
        self.closed = True
        self.group.suspended(self)

    def abandon(self) -> None:
        """The group ends here, the session goes on elsewhere: nothing is said, nobody is told."""
        self.closed = True
        if self._inbox is not None:
            self._inbox.clear()
        if self._calls is not None:
            self._calls.link_lost()

    def settled(self) -> None:
        """Wait until nothing of it runs any more."""
        if self._inbox is not None:
            self._inbox.wait()

    # Its state

    def mark_state(self) -> None:
        """Something of what SessionState tells has changed: its edge hears of it when the running message is done, or now."""
        self._state_due = True
        if self.handler is None:
            self.tell_state()

    def knows_state(self, state: bytes) -> None:
        """This is the state that its edge has; a change is told when it has come to that."""
        self._state, self._state_due = state, False
        if self.stored is not None:
            # Its edge may know it in memory alone.
            self._state_said = said = Said((), self.done, [], 0)
            said.position = 0

    def tell_state(self) -> None:
        """Tell the edge, if there is something new."""
        if self.closed or self.absent:
            return
        self._state_due = False
        state = pack_state(self)
        if state != self._state:
            self._state = state
            # What is said between two messages is stored with the next one at the latest.
            self._state_said = said = Said((), self.handling or self.done + 1, [], 0)
            self.group.outputs.tell_state(self, SessionState(self.number, state), said)

    def state_to_journal(self) -> bytes | None:
        """The state, where the message that was just handled has changed it, or an earlier one and the edge may not have it."""
        if self._state_due:
            self.tell_state()
        said = self._state_said
        if said is None:
            return None
        if said.position is not None and not self.lacks(said.number, said.position):
            self._state_said = None
            return None
        return self._state

    # Message streams

    @property
    def streams(self) -> "dict[int, NetStream]":
        """Its message streams by id."""
        if self._streams is None:
            self._streams = {}
        return self._streams

    # Order

    def too_fast(self, count: int = 1) -> bool:
        """Count a message, a large one as `count`; returns whether the client sends more than it may. A bucket of
        `messages_burst` tokens, kept as the time at which it is full again."""
        group = self.group
        config, now, full_at = group.config, group.clock(), self._full_at
        if full_at < now:
            full_at = now
        self._full_at = full_at = full_at + count / config.messages_per_s
        return full_at - now > config.messages_burst / config.messages_per_s

    def post(
        self,
        run: Callable[[], None],
        *,
        waits: bool,
        size: int = 0,
        always: bool = False,
        number: int = 0,
    ) -> None:
        """Run something in this session's order. `waits`: it may wait, so it needs a greenlet. `size`: bytes it holds.
        `number` of the client's message that it carries out. A client that gets too far ahead of its application is closed."""
        inbox = self._inbox
        if inbox is None:
            if not waits:
                self.carry_out(run, number)
                return
            inbox = self._inbox = Inbox(self)
        inbox.add(run, waits, size, always, number)

    @property
    def busy(self) -> bool:
        """Whether something of it runs, or waits for its turn."""
        return self._inbox is not None

    def wait_for_start(self) -> None:
        """A new session does nothing before its group has started."""
        if not self.group.started.is_set():
            self._inbox = Inbox(self, held=True)
            self.group.early.append(self._inbox)

    def at_rest(self) -> None:
        """Nothing of it runs or waits any more."""
        self._inbox = None
        if self.absent and not self.closed:
            self._suspended()

    def carry_out(self, run: Callable[[], None], number: int) -> None:
        """Run what was posted, now that its turn has come."""
        if 0 < number <= self.applied:
            self.group.counters.messages_again += 1
            return
        outputs = self.group.outputs
        before = outputs.count
        if number:
            # What runs inside of it, in the session's order but with no number, is part of it.
            self.handling, self.handler = number, getcurrent()
        try:
            run()
            if not number:
                pass
            elif outputs.lost:
                self.unfinished = True
            elif outputs.count != before and not outputs.off:
                self.group.durable.applied(self, number)
            else:
                if self._state_due:
                    self.tell_state()
                outputs.done(self, number)
        except GroupLost:
            self.unfinished = True  # Its next owner handles it.
        except hooks.FAILURES as error:
            self.group.counters.handler_errors += 1
            _log.error("session failed", group=self.group.name, session=self.session_id, error=repr(error))
            self.close("internal error")
        except BaseException:
            self.close("internal error")  # Its greenlet was ended: nothing goes on as if it were done.
            raise
        finally:
            if number:
                self.handling, self.handler = 0, None
