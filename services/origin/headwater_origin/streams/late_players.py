"""Players of a stream that another edge had, which was told a part of it that they may not have been told."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater_bus.traffic import PlayStarted, ToClient
from headwater_rtmp.message import Message

from headwater_origin.streams.kept import Kept
from headwater_origin.streams.net_stream import NetStream, play_changed
from headwater_origin.streams.subscription import Subscription

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session
    from headwater_origin.streams.stream import Stream

_MOST_RECENT = 1000
"""Messages, 13 s of a stream of 30 pictures a second with sound."""
_FADE_WITH_EACH, _FADE_IN_A_TICK = 3, 30
"""So many that nobody may lack any more go with each that comes, and where none comes."""


@dataclass(slots=True)
class _Late:
    """A player that goes on when the stream has come to where it was, at message `have`; at `until` it is started anew."""

    session: "Session"
    net_stream: "NetStream"
    subscription: Subscription
    have: int
    until: float

    @property
    def plays(self) -> bool:
        """Whether it does still, over this link."""
        return not self.session.closed and self.subscription.players.get(self.net_stream) is self.session


class LatePlayers:
    """Those of one stream that have yet to go on, and the stream's last messages, which they may lack."""

    __slots__ = ("_group", "_late", "_recent", "_stream")

    def __init__(self, stream: "Stream", group: "Group") -> None:
        self._stream, self._group = stream, group
        self._late: list[_Late] = []
        self._recent: Kept | None = None

    def __bool__(self) -> bool:
        return bool(self._late)

    def players(self) -> "dict[NetStream, Session]":
        """All that wait and play still."""
        return {late.net_stream: late.session for late in self._late if late.plays}

    # The last messages

    def keep(self, number: int, message: Message | None) -> None:
        """Keep a message of the stream, if somebody may lack it. None: players do not get what has this number."""
        recent = self._recent
        if recent is None:
            if not self._someone_may_lack:
                return
            recent = self._recent = Kept(number, self._group.config.cache_bytes, most=_MOST_RECENT)
        recent.add(number, message)
        self._fade(_FADE_WITH_EACH)

    def _fade(self, most: int) -> None:
        if self._recent is not None and not self._someone_may_lack and not self._recent.fade(most):
            self._recent = None

    @property
    def _someone_may_lack(self) -> bool:
        """Whether there is anybody who has come back over another edge and waits, or may come. Who was there at another origin
        the journal tells, where there is one, but not which guests were."""
        group = self._group
        tells = group.journaled and group.application is not None
        return bool(self._late or group.roaming or group.absent) or (group.gathers and not tells)

    def forget(self) -> None:
        """What is kept is not of this stream any more, or has a hole behind it."""
        self._recent = None

    # The players

    def take_over(
        self, session: "Session", net_stream: "NetStream", subscription: Subscription, have: int
    ) -> None:
        """A player goes on that another edge had, and that was told the stream up to message `have`: first it alone gets what
        it lacks of what its new edge has been sent, then it plays with the others there. Where the publisher has yet to come with
        that it waits so long; where it is not known any more it is started anew."""
        stream, until = self._stream, self._group.clock() + self._group.config.resume_grace_s
        late = _Late(session, net_stream, subscription, have, until)

        def go_on() -> None:
            while session.waiting and not session.closed:
                session.group.outputs.flushed()
            if not late.plays:
                return
            if have and not self._has_come_to(have, subscription) and stream.expects_more:
                self._late.append(late)
                if stream.publication is None:
                    stream.due = until
            else:
                self._start(late)

        if session.waiting:
            session.group.run(go_on)
        else:
            go_on()

    def look(self) -> None:
        """The stream has gone on: some need not wait any longer."""
        self._late = [late for late in self._late if not self._goes_on(late)]

    def tend(self, now: float) -> None:
        """Those whose time is up are started anew, and what nobody lacks any more goes."""
        self._fade(_FADE_IN_A_TICK)
        late, self._late = self._late, []
        for one in late:
            if one.until <= now and not one.session.waiting:
                self._start(one)
            elif not self._goes_on(one):
                self._late.append(one)

    def start(self) -> None:
        """What they wait for does not come: all begin with what there is."""
        late, self._late = self._late, []
        for one in late:
            self._start(one)

    def _has_come_to(self, have: int, subscription: Subscription) -> bool:
        """Whether an edge was sent the stream up to message `have`, and all of what it was sent is here, or was."""
        sent = 0 if subscription.waiting else subscription.have
        return have == sent or have <= sent <= self._stream.last

    def _goes_on(self, late: _Late) -> bool:
        """Whether a player need not wait any longer: what it lacks has come."""
        subscription = late.subscription
        if not late.plays:
            return True
        if late.session.waiting or subscription.dropping or not self._has_come_to(late.have, subscription):
            # With what waits the link would not keep the order.
            return False
        self._start(late)
        return True

    def _start(self, late: _Late) -> None:
        """Nothing waits in between: the link keeps the order of this and of what comes next of the stream."""
        if not late.plays:
            return
        session, net_stream, subscription = late.session, late.net_stream, late.subscription
        subscription.edge.media.flush()
        group = session.group
        lacking = self._lacking(late.have, subscription)
        for message in lacking or ():
            if not net_stream.wants(message):
                continue
            told = ToClient(
                session.number, message.type_id, net_stream.id, message.timestamp, message.payload
            )
            group.reply(session, told)
        started = PlayStarted(session.number, net_stream.id, subscription.number, lacking is not None)
        group.reply(session, started)
        if not net_stream.audio or not net_stream.video or net_stream.paused:
            group.reply(session, play_changed(session, net_stream))

    def _lacking(self, have: int, subscription: Subscription) -> list[Message] | None:
        """What of that which an edge was sent comes behind message `have`; None: that is not known."""
        if not have or subscription.waiting or subscription.dropping or have > subscription.have:
            return None
        if have == subscription.have:
            return []
        recent = self._recent
        if recent is None or recent.first > have + 1 or recent.last < subscription.have:
            return None
        return [message for number, message in recent.behind(have) if number <= subscription.have]
