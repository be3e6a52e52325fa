"""What clients have seen, and what is wrong with it. Pure: fed with what arrives, it keeps little, so a run may be long.

Whoever sees something wrong reports a Finding: the rule that is broken, the client, and the lines of its history around it.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from headwater_rtmp.shared_object import EventType

_LINES_KEPT = 400
_BEFORE, _AFTER = 25, 15
_FINDINGS_KEPT = 20


@dataclass(slots=True)
class Finding:
    """Something that no client may see. `before` and `after`: its history around it."""

    at_s: float
    rule: str
    client: str
    text: str
    before: tuple[str, ...] = ()
    after: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a report."""
        head = f"{self.at_s:8.2f} s  {self.rule}: {self.client}: {self.text}"
        return [
            head,
            *(f"      {line}" for line in self.before),
            "    ----",
            *(f"      {line}" for line in self.after),
        ]


class Findings:
    """All that was found: the first of each rule with their windows, of the others the numbers. `clock`: seconds since the
    begin."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.kept: list[Finding] = []
        self.rules: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.rules.total()

    def add(self, finding: Finding) -> None:
        """Keep it."""
        self.rules[finding.rule] += 1
        if self.rules[finding.rule] <= _FINDINGS_KEPT:
            self.kept.append(finding)

    def report(self, most: int = 3) -> str:
        """What was found, the first `most` of each rule with their windows; empty if nothing was."""
        if not self.rules:
            return ""
        counts = ", ".join(f"{number} x {rule}" for rule, number in self.rules.most_common())
        lines = [f"{len(self)} findings: {counts}"]
        told: Counter[str] = Counter()
        for finding in self.kept:
            told[finding.rule] += 1
            if told[finding.rule] <= most:
                lines += finding.lines()
        return "\n".join(lines)


class History:
    """What one client did and saw: the last lines, for the windows of findings."""

    def __init__(self, client: str, findings: Findings) -> None:
        self.client = client
        self._findings = findings
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._open: list[Finding] = []

    @property
    def now_s(self) -> float:
        """Since the run's begin."""
        return self._findings.clock()

    def note(self, text: str) -> None:
        """It did or saw something."""
        line = f"{self.now_s:8.2f} {text}"
        self._lines.append(line)
        for finding in self._open:
            finding.after.append(line)
        if self._open:
            self._open = [finding for finding in self._open if len(finding.after) < _AFTER]

    def wrong(self, rule: str, text: str) -> Finding:
        """It saw what it may not."""
        finding = Finding(self.now_s, rule, self.client, text, tuple(list(self._lines)[-_BEFORE:]))
        self._findings.add(finding)
        self._open.append(finding)
        self.note(f"!! {rule}: {text}")
        return finding


class Sequence:
    """One sender's messages as one listener hears them: 1, 2, 3 ... `what` names them."""

    def __init__(self, history: History, what: str) -> None:
        self._history, self._what = history, what
        self.heard_to = 0
        """The highest number."""
        self._missing: set[int] = set()

    def heard(self, number: int) -> None:
        """The next one."""
        expected = self.heard_to + 1
        if number == expected:
            self.heard_to = number
        elif number > expected:
            self._missing.update(range(expected, number))
            self._history.wrong("lost or late", f"{self._what}: {number} after {self.heard_to}")
            self.heard_to = number
        elif number in self._missing:
            self._missing.remove(number)
            self._history.wrong("out of order", f"{self._what}: {number} after {self.heard_to}")
        else:
            self._history.wrong("twice", f"{self._what}: {number} again, after {self.heard_to}")

    def finish(self, sent_to: int) -> None:
        """Nothing more comes; so many were sent."""
        if self._missing:
            self._history.wrong("lost", f"{self._what}: {_ranges(self._missing)} never came")
        if self.heard_to != sent_to:
            self._history.wrong(
                "lost", f"{self._what}: the last one heard is {self.heard_to}, sent were {sent_to}"
            )


class Calls:
    """The calls of one client, numbered from 1 and sent in order."""

    def __init__(self, history: History, name: str) -> None:
        self._history, self._name = history, name
        self.sent_to = 0
        self.answered = 0
        self._waiting: set[int] = set()
        self._last_sum = 0

    def ask(self) -> int:
        """The number of the next one."""
        self.sent_to += 1
        self._waiting.add(self.sent_to)
        return self.sent_to

    def answer(self, number: int, result: Any) -> None:
        """The result of `chaos_app.count`."""
        self.answered += 1
        if number not in self._waiting:
            self._history.wrong("answered twice", f"call {number}: {result}")
            return
        self._waiting.remove(number)
        try:
            said = (result["name"], int(result["number"]), int(result["runs"]), int(result["mine"]))
            total = int(result["sum"])
        except (TypeError, KeyError, ValueError):
            self._history.wrong("wrong result", f"call {number}: {result!r}")
            return
        if said[:2] != (self._name, number):
            self._history.wrong("wrong result", f"call {number}: the answer is that of {said[0]} {said[1]}")
        elif said[2] != 1:
            self._history.wrong("run twice", f"call {number}: ran {said[2]} times")
        elif said[3] != number:
            self._history.wrong("wrong result", f"call {number}: is the {said[3]}. of this client that ran")
        elif total <= self._last_sum:
            self._history.wrong("wrong result", f"call {number}: the sum is {total}, after {self._last_sum}")
        self._last_sum = max(total, self._last_sum)

    def fail(self, number: int, error: Exception) -> None:
        """It was refused, or not answered in time."""
        self._waiting.discard(number)
        self._history.wrong("call failed", f"call {number}: {error}")

    def finish(self, journal: dict[str, float]) -> None:
        """What the application says at the end: how often each ran, by number."""
        if self._waiting:
            self._history.wrong("not answered", f"calls {_ranges(self._waiting)}")
        runs = {int(number): int(times) for number, times in journal.items()}
        lost = set(range(1, self.sent_to + 1)) - set(runs)
        twice = {number for number, times in runs.items() if times != 1}
        unknown = {number for number in runs if number > self.sent_to}
        if lost:
            self._history.wrong("not run", f"calls {_ranges(lost)} of {self.sent_to}")
        if twice:
            self._history.wrong("run twice", f"calls {_ranges(twice)}")
        if unknown:
            self._history.wrong("run but never sent", f"calls {_ranges(unknown)}")


class ObjectTruth:
    """What all clients of an object together say of it: one value for each slot at each version."""

    def __init__(self) -> None:
        self._as_of: dict[tuple[str, int], tuple[Any, str]] = {}
        self._first: dict[tuple[str, Any], int] = {}

    def seen(self, history: History, key: str, version: int, value: Any) -> None:
        """A client has been told that a slot is this as of a version."""
        known = self._as_of.setdefault((key, version), (value, history.client))
        if known[0] != value:
            history.wrong(
                "two histories",
                f"{key} at version {version} is {value!r}, {known[1]} was told {known[0]!r}",
            )
        first = self._first.get((key, value))
        if first is None or version < first:
            self._first[key, value] = version

    def since(self, key: str, value: Any) -> int | None:
        """The version with which it became so, as far as anybody was told: None where it was never the last of a message."""
        return self._first.get((key, value))


class Replica:
    """One client's copy of an object. Every value of a slot is set once; those of `numbers` slots only grow."""

    def __init__(self, history: History, truth: ObjectTruth, what: str, shared_key: str) -> None:
        self._history, self._truth, self._what = history, truth, what
        self._shared_key = shared_key
        self._last: dict[str, Any] = {}
        self._order: list[Any] = []
        self._asked: dict[str, deque[Any]] = {}
        self.version = -1
        self.acknowledged: dict[str, Any] = {}
        """The last value of each slot that this client has set and that the server has acknowledged."""

    @property
    def history(self) -> History:
        """Of this client."""
        return self._history

    def begins(self, version: int, contents: dict[str, Any]) -> None:
        """The first contents that it is told."""
        self.version = version
        for key, value in contents.items():
            self._last[key] = value
            self._truth.seen(self._history, key, version, value)

    def asked(self, key: str, value: Any) -> None:
        """This client has set a slot."""
        self._asked.setdefault(key, deque()).append(value)

    def message(self, version: int, events: list[tuple[EventType, str, Any]]) -> None:
        """A message of the server: Success of this client's oldest change of a slot, Change by another client."""
        if version < self.version:
            self._history.wrong("went back", f"{self._what}: version {version} after {self.version}")
        self.version = version
        now: dict[str, Any] = {}
        for kind, key, value in events:
            if kind == EventType.SUCCESS:
                asked = self._asked.get(key)
                if not asked:
                    self._history.wrong(
                        "answered twice", f"{self._what}: Success for {key}, which waits for none"
                    )
                    continue
                value = self.acknowledged[key] = asked.popleft()
            self._is(key, value)
            now[key] = value
        for key, value in now.items():
            # Several commits may have come as one: only the last value of a slot is that of the version.
            self._truth.seen(self._history, key, version, value)

    def cleared(self) -> None:
        """The server begins to send everything again."""
        self._history.wrong("sent all again", f"{self._what} at version {self.version}")

    def refused(self, code: str) -> None:
        """It says no."""
        self._history.wrong("change refused", f"{self._what}: {code}")

    def _is(self, key: str, value: Any) -> None:
        last = self._last.get(key)
        if value == last:
            self._history.wrong("twice", f"{self._what}: {key} is {value!r} again at version {self.version}")
        elif key == self._shared_key:
            self._order.append(value)
        elif last is not None and value < last:
            self._history.wrong("went back", f"{self._what}: {key} is {value!r} after {last!r}")
        self._last[key] = value

    def finish(self, contents: dict[str, Any], version: int, stored: dict[str, Any]) -> None:
        """Nothing more comes. `contents` and `version` are what this client shows, `stored` what a new one is told."""
        waiting = {key: list(values) for key, values in self._asked.items() if values}
        if waiting:
            self._history.wrong("not answered", f"{self._what}: changes {waiting}")
        if contents != stored:
            differing = {
                key: (contents.get(key), stored.get(key))
                for key in contents.keys() | stored.keys()
                if contents.get(key) != stored.get(key)
            }
            self._history.wrong("replicas differ", f"{self._what}: (here, stored) {differing}")
        if version != self.version:
            self._history.wrong(
                "replicas differ", f"{self._what}: version {self.version} here, {version} stored"
            )
        for key, value in self.acknowledged.items():
            if key != self._shared_key and stored.get(key) != value:
                self._history.wrong(
                    "acknowledged and lost",
                    f"{self._what}: {key} is {stored.get(key)!r}, acknowledged was {value!r}",
                )
        self._check_order()

    def _check_order(self) -> None:
        """Whether this client was told the shared slot's values in the order in which they were committed."""
        dated = [(value, self._truth.since(self._shared_key, value)) for value in self._order]
        known = [(value, since) for value, since in dated if since is not None]
        for (one, since), (other, then) in pairwise(known):
            if since > then:
                self._history.wrong(
                    "two histories",
                    f"{self._what}: {self._shared_key} was {one!r} (version {since}) before {other!r} (version {then})",
                )


class Media:
    """One player's stream, whose audio and video messages are numbered together from 1. It may begin anywhere, at a keyframe.
    After a silence of over `ring_s` there may be a gap, to a keyframe: `gaps` counts those."""

    def __init__(self, history: History, what: str, ring_s: float) -> None:
        self._history, self._what, self._ring_s = history, what, ring_s
        self.first = self.last = 0
        self.received = self.gaps = 0
        self.longest_s = 0.0
        """The longest silence."""
        self._last_at_s = 0.0

    def frame(self, number: int, keyframe: bool) -> None:
        """An audio or video message."""
        now_s = self._history.now_s
        silence_s = now_s - self._last_at_s
        self.received += 1
        if not self.last:
            self.first = number
            if not keyframe:
                self._history.wrong("no keyframe", f"{self._what}: begins with {number}")
        else:
            self.longest_s = max(self.longest_s, silence_s)
            if number <= self.last:
                self._history.wrong("twice", f"{self._what}: {number} after {self.last}")
                return
            if number != self.last + 1:
                self._gap(number, keyframe, silence_s)
        self.last, self._last_at_s = number, now_s

    def _gap(self, number: int, keyframe: bool, silence_s: float) -> None:
        text = f"{self._what}: {number} after {self.last}, {silence_s:.2f} s of silence before it"
        if silence_s < self._ring_s:
            self._history.wrong("gap", text)
        elif not keyframe:
            self._history.wrong("no keyframe", text)
        else:
            self.gaps += 1
            self._history.note(text)

    def finish(self, sent_to: int) -> None:
        """Nothing more comes; so many were sent."""
        if self.last != sent_to:
            self._history.wrong("lost", f"{self._what}: the last one is {self.last}, sent were {sent_to}")


def check_run_of(history: History, what: str, source: list[str], received: list[str], at_least: int) -> None:
    """Whether packets (hashes) are consecutive ones of a source that is repeated for ever."""
    if len(received) < at_least:
        history.wrong("lost", f"{what}: {len(received)} packets, expected {at_least} or more")
        return
    places: dict[str, list[int]] = {}
    for at, value in enumerate(source):
        places.setdefault(value, []).append(at)
    expected = set(range(len(source)))
    for at, value in enumerate(received):
        here = expected.intersection(places.get(value, ()))
        if not here:
            history.wrong("gap", f"{what}: packet {at} of {len(received)} does not follow the one before")
            return
        expected = {(place + 1) % len(source) for place in here}


def _ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs[:50])
