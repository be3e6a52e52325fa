"""What a group's journal says was done, and whether what a client has heard is that."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headwater_amf import amf0
from headwater_bus.rows import unpack_rows as unpack_payload
from headwater_origin.durable.journal import RowKind, unpack_rows
from headwater_origin.durable.said import SaidKind
from headwater_rtmp.command import decode_command
from headwater_rtmp.message import COMMANDS, Message

from support.object_bench import CHANGED, CLEARED, REMOVED, SENT
from support.roaming_clients import Heard, ObjectName, Roamer, Segment


@dataclass
class Done:
    """One commit of an object: its place among all that was done, who asked for it, and what it is for others."""

    order: int
    asker: str
    events: list[Heard]
    own: list[Heard]
    """What it is for who asked."""
    after: dict[str, Any]
    """The content behind it."""


Due = tuple[Done, Heard]
"""What a client is to hear of a commit."""


_NEVER_MERGED = ("send", "success")


class Truth:
    """What the entries of a journal say. Objects that were forgotten go on with nothing."""

    def __init__(self, entries: list[bytes]) -> None:
        self.done: dict[ObjectName, list[Done]] = {}
        self.words: list[tuple[int, float, str]] = []
        """Place, value, and who hears it; empty: everybody."""
        self._order = 0
        self._problem = (-1, "")
        for entry in entries:
            for row in unpack_rows(entry):
                self._order += 1
                if row[0] == RowKind.OBJECT:
                    self._commit(row)
                elif row[0] == RowKind.OBJECT_GONE and row[2]:
                    self._add((row[2], bool(row[1])), "", [], [], {})
                elif row[0] in (RowKind.SAID, RowKind.BROADCAST):
                    self._word(row)

    def content(self, name: ObjectName) -> dict[str, Any]:
        done = self.done.get(name)
        return done[-1].after if done else {}

    def _add(
        self, name: ObjectName, asker: str, events: list[Heard], own: list[Heard], after: dict[str, Any]
    ) -> None:
        self.done.setdefault(name, []).append(Done(self._order, asker, events, own, after))

    def _commit(self, row: list[Any]) -> None:
        name = (row[2], bool(row[1]))
        after = dict(self.content(name))
        events: list[Heard] = []
        own: list[Heard] = []
        for kind, key, value in unpack_payload(row[-1], int, str, bytes):
            if kind == CHANGED:
                after[key] = amf0.decode(value)[0]
                events.append(("change", key, after[key]))
                own.append(("success", key))
                continue
            if kind == SENT:
                events.append(("send", amf0.decode_all(value)[1]))
            elif kind == REMOVED:
                after.pop(key)
                events.append(("remove", key))
            elif kind == CLEARED:
                after.clear()
                events.append(("clear",))
            own.append(events[-1])
        self._add(name, row[5][0] if row[5] else "", events, own, after)

    def _word(self, row: list[Any]) -> None:
        to_all = row[0] == RowKind.BROADCAST
        form = row[2] if to_all else row[3]
        if form[0] == SaidKind.BROADCAST or (form[0] == SaidKind.TO_CLIENT and form[1] in COMMANDS):
            payload = form[2] if form[0] == SaidKind.BROADCAST else form[4]
            command = decode_command(Message(form[1], 0, 0, payload))
            if command.name == "word":
                self.words.append((self._order, command.args[0], "" if to_all else row[1]))

    def words_of(self, client: Roamer) -> list[float]:
        """What it is to hear, in order."""
        return [word for _, word, who in self.words if who in ("", client.session_id)]

    # What was heard

    def ways(
        self, client: Roamer, name: ObjectName, segments: list[Segment], merged: bool
    ) -> Iterator[list[list[int]]]:
        """How what a client has heard of an object is just what was done from some point on, and to the end where it uses it
        still: for each segment the places of what it has heard (-1 for what has none of its own). `merged`: of others' changes
        it need not have heard each. Where there is no way it raises AssertionError, which says why.

        A segment begins with the content behind some commit. Where the client had asked for some of those before it hears these
        answers, and the messages since, behind that."""
        found = False
        self._problem = (-1, "its content never was")
        for way in self._chains(client, name, segments, merged, 0):
            found = True
            yield way
        heard = [(segment.content, segment.heard) for segment in segments]
        assert found, f"{name} of {client.number}: {heard}, {self._problem}; {self.content(name)}"

    def _chains(
        self, client: Roamer, name: ObjectName, segments: list[Segment], merged: bool, behind: int
    ) -> Iterator[list[list[int]]]:
        if not segments:
            yield []
            return
        segment, *others = segments
        last = not others and name in client.using
        done = self.done.get(name, [])
        corrected = set(client.corrected.get(name, ()))
        if any(not one.events for one in done):
            corrected.add("")  # It was forgotten meanwhile.
        for alone, newer in self._ways(client, done, segment, behind):
            if merged:
                newer = [one for one in newer if one[1][0] in _NEVER_MERGED]
            match = _Match(corrected, segment, alone, newer, last, merged)
            copy = _copy(segment, match.due_of) if match.found else {}
            if not match.found:
                self._problem = max(self._problem, (match.furthest, f"due {match.due}"))
            elif last and copy != self.content(name):
                self._problem = max(self._problem, (match.furthest, f"has {copy} in the end"))
            else:
                for chain in self._chains(client, name, others, merged, max([behind, *match.places])):
                    yield [match.places, *chain]

    def order(self, client: Roamer, ways: tuple[list[list[int]], ...]) -> list[int]:
        """The places of all that a client has heard, in the order in which it has."""
        places = {
            (id(segment), at): place
            for segments, way in zip(client.segments.values(), ways, strict=True)
            for segment, found in zip(segments, way, strict=True)
            for at, place in enumerate(found)
        }
        words = {word: place for place, word, _ in self.words}
        order = [
            words[one] if isinstance(one, float) else places[id(one[0]), one[1]] for one in client.sequence
        ]
        return [place for place in order if place >= 0]

    def _ways(
        self, client: Roamer, done: list[Done], segment: Segment, behind: int
    ) -> list[tuple[list[Due], list[Due]]]:
        """What may be to be heard: alone, and then all."""
        ways: list[tuple[list[Due], list[Due]]] = []
        for at in range(len(done) + 1):
            newer = _due(client, done[at:])
            if (done[at - 1].after if at else {}) != segment.content or (
                newer and newer[0][0].order <= behind
            ):
                continue
            before = _due(client, [one for one in done[:at] if one.order > behind])
            alone = [one for one in before if one[1][0] in _NEVER_MERGED]
            ways += [(alone[skipped:], newer) for skipped in range(len(alone) + 1)]
        return sorted(ways, key=lambda way: len(way[0]))


def _copy(segment: Segment, due_of: list[Due | None]) -> dict[str, Any]:
    """What a client has when it has heard all that: what it has asked for is true when it was done."""
    copy = dict(segment.content)
    answered: dict[tuple[int, str], int] = {}
    for event, due in zip(segment.heard, due_of, strict=True):
        if event[0] == "change":
            copy[event[1]] = event[2]
        elif event[0] == "remove":
            copy.pop(event[1], None)
        elif event[0] == "clear":
            copy.clear()
        elif event[0] == "success" and due is not None:
            key = (due[0].order, event[1])
            values = [one[2] for one in due[0].events if one[:2] == ("change", event[1])]
            copy[event[1]] = values[answered.get(key, 0)]
            answered[key] = answered.get(key, 0) + 1
    return copy


def _due(client: Roamer, done: list[Done]) -> list[Due]:
    return [
        (one, event) for one in done for event in (one.own if one.asker == client.session_id else one.events)
    ]


class _Match:
    """What was heard, and what was to be heard. The content that the segment begins with has what is to be heard `alone`; slots
    of that may be told as they are now. So may be those that the client wanted to be gone (`corrected`), even as they are going
    to be: that is the answer to a request that changed nothing."""

    def __init__(
        self,
        corrected: set[str],
        segment: Segment,
        alone: list[Due],
        newer: list[Due],
        last: bool,
        merged: bool,
    ) -> None:
        self._segment, self._alone, self._last, self._merged = segment, len(alone), last, merged
        self._corrected = corrected | {event[1] for _, event in alone if event[0] == "success"}
        self._due = alone + newer
        self.due = [event for _, event in self._due]
        self.due_of: list[Due | None] = []
        self._sure: list[bool] = []
        self.furthest = 0
        self._failed: set[tuple[int, int]] = set()
        self.found = self._goes_on(0, 0)

    def _goes_on(self, index: int, at: int) -> bool:
        """Whether what was heard from `index` on is what was due from `at` on."""
        self.furthest = max(self.furthest, index)
        heard = self._segment.heard
        if index == len(heard):
            return not self._last or at == len(self._due)
        if (index, at) in self._failed:
            return False
        event = heard[index]
        answers = self._answers(event, at)
        if at < len(self._due) and event == self._due[at][1]:
            self.due_of.append(self._due[at])
            self._sure.append(not answers)
            if self._goes_on(index + 1, at + 1):
                return True
            self.due_of.pop()
            self._sure.pop()
        if answers:
            self.due_of.append(None)
            self._sure.append(False)
            if self._goes_on(index + 1, at):
                return True
            self.due_of.pop()
            self._sure.pop()
        self._failed.add((index, at))
        return False

    @property
    def places(self) -> list[int]:
        """See `Truth.ways`."""
        return [
            due[0].order if due is not None and sure else -1
            for due, sure in zip(self.due_of, self._sure, strict=True)
        ]

    def _answers(self, event: Heard, at: int) -> bool:
        key = event[1] if len(event) > 1 else ""
        if self._merged and event[0] not in _NEVER_MERGED:
            return True
        if not self._corrected & {key, ""}:
            return False
        contents = [self._segment.content, *(one.after for one, _ in self._due[max(self._alone, at - 1) :])]
        if event[0] == "change":
            return any(content.get(key) == event[2] for content in contents)
        if event[0] == "remove":
            return any(key not in content for content in contents)
        return event[0] == "clear" and "" in self._corrected
