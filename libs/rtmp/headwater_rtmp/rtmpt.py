"""RTMPT, RTMP in HTTP requests: what stands in their targets, the numbers that keep them in order, the byte that says how often
to ask.

There is no standard. What is here follows what FFmpeg (rtmphttp), librtmp and Flash Player send, and Red5's description of
2006. A session is opened by `POST /open/1`; then each `POST /send/ID/NUMBER` brings bytes of the client, `/idle/ID/NUMBER` asks
for those of the server, `/close/ID/NUMBER` ends it. The answer to each is the poll byte, and then RTMP.
"""

import re
import secrets
from dataclasses import dataclass
from enum import Enum

CONTENT_TYPE = "application/x-fcs"
POLL_UNIT_S = 0.015
"""How long 1 of a poll byte is, for clients that heed it. By Red5's description 0x21, the longest, is about 0.5 s; others are
read in proportion."""
_MASK = 0xFFFFFFFF
_HALF = 0x80000000
_AHEAD = 8
"""How many requests may come before their turn."""
_ID = re.compile(r"[A-Za-z0-9_\-]{16,60}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_MANY_EMPTY = 10
_POLLS = (0x01, 0x03, 0x05, 0x09, 0x11, 0x21)
"""Red5's: 1 more than delays that double."""


class Verb(Enum):
    """What a request of a session is for."""

    SEND = "send"
    IDLE = "idle"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Ident:
    """A client asks which address to use. 404 means the one that it has."""


@dataclass(frozen=True, slots=True)
class Open:
    """A client wants a session; the answer is its id and a newline."""


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A request of a session; `sequence` modulo 2**32."""

    verb: Verb
    session_id: str
    sequence: int


def parse_target(target: str) -> Ident | Open | SessionRequest | None:
    """What a POST is about; None: nothing of RTMPT. A query is no part of it."""
    parts = target.partition("?")[0].strip("/").split("/")
    if len(parts) == 2 and parts[0] == "fcs" and parts[1] in ("ident", "ident2"):
        return Ident()
    if parts[0] == "open" and len(parts) <= 2:
        return Open()
    if len(parts) != 3 or parts[0] not in Verb._value2member_map_:
        return None
    if _ID.fullmatch(parts[1]) is None or _NUMBER.fullmatch(parts[2]) is None:
        return None
    return SessionRequest(Verb(parts[0]), parts[1], int(parts[2]) & _MASK)


def session_target(verb: Verb, session_id: str, sequence: int) -> str:
    """The target of a request."""
    return f"/{verb.value}/{session_id}/{sequence & _MASK}"


def new_session_id() -> str:
    """One that nobody can guess: 192 random bits in 32 letters of URLs. FFmpeg takes 63 at most."""
    return secrets.token_urlsafe(24)


class Verdict(Enum):
    """What a request's number makes of it."""

    NEXT = "next"
    """It is to be carried out."""
    REPEAT = "repeat"
    """It is the last one again, and gets the same answer; what it brings was taken."""
    OLD = "old"
    """It was taken before the last one: nobody can wait for its answer any more."""
    EARLY = "early"
    """Others come before it."""
    WRONG = "wrong"
    """Too many would come before it."""


class Sequence:
    """The numbers of a session's requests: each one more than the last, modulo 2**32; the first may be any (FFmpeg begins with 0,
    librtmp with 2). `last` is that of the last one that was begun, -1 before the first.

    `open`: requests that changed nothing may have been answered since, by a server that did not say so. Then any later number may
    be the next. `unsure`: the last request was taken so and told something, and it may have been an old copy, which nobody waited
    for. Only the number right behind it, which who has heard that sends, shows that it was none."""

    __slots__ = ("last", "open", "unsure")

    def __init__(self) -> None:
        self.last = -1
        self.open = self.unsure = False

    @classmethod
    def restored(cls, last: int, unsure: bool = False) -> "Sequence":
        """Of a session that another server had. `last` that changed something, and whether it is `unsure`."""
        sequence = cls()
        sequence.last = last
        sequence.unsure = unsure
        sequence.open = last >= 0 and not unsure
        return sequence

    @property
    def expected(self) -> int:
        """The number of the next request; 0 where it may be any."""
        return (self.last + 1) & _MASK

    def ahead(self, number: int) -> int:
        """How many come before this one; 0 for the next, and where any may be. Below 0: it was taken already."""
        if self.last < 0:
            return 0
        ahead = (number - self.last - 1) & _MASK
        return ahead if ahead < _HALF else ahead - _MASK - 1

    def judge(self, number: int) -> Verdict:
        """See Verdict."""
        if self.last < 0:
            return Verdict.NEXT
        ahead = self.ahead(number)
        if ahead < 0:
            return Verdict.REPEAT if ahead == -1 else Verdict.OLD
        if ahead == 0 or self.open:
            return Verdict.NEXT
        return Verdict.EARLY if ahead <= _AHEAD else Verdict.WRONG

    def took(self, number: int, verb: Verb) -> None:
        """A request that is NEXT was begun. One that says something comes behind the answers to all others; one that asks may be
        an old copy, where they are open."""
        self.last = number & _MASK
        self.unsure = False
        if verb is not Verb.IDLE:
            self.open = False

    def told(self) -> None:
        """The answer to the last request says something."""
        if self.open:
            self.open, self.unsure = False, True


class PollPacing:
    """The first byte of each answer: how long a client that has nothing to send should wait before it asks again, from 1, after
    something was said, to 0x21, about half a second, after many answers without anything."""

    __slots__ = ("_empty",)

    def __init__(self) -> None:
        self._empty = 0

    def answered(self, size: int) -> int:
        """The byte for an answer with so many bytes of RTMP."""
        if size:
            self._empty = 0
            return _POLLS[0]
        self._empty = min(self._empty + 1, _MANY_EMPTY * len(_POLLS))
        return _POLLS[min(self._empty // _MANY_EMPTY, len(_POLLS) - 1)]

    def dump(self) -> int:
        """For another server."""
        return self._empty

    @classmethod
    def load(cls, dumped: int) -> "PollPacing":
        """What `dump` gave."""
        pacing = cls()
        pacing._empty = max(0, dumped)
        return pacing
