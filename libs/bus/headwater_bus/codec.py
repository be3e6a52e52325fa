"""Envelopes to ZeroMQ frames and back.

A batch is one msgpack frame, an array of flat arrays `[kind, field, field, ...]`. A payload (a field declared with
`metadata=FRAME`, always the last) of up to INLINE_BYTES stands right behind the kind; a longer one has a
frame of its own, uncopied, in order behind the array, and the kind is written negated, so that a reader who does not
know the kind still knows which frame belongs to which envelope.
Fields that a newer peer adds at the end are ignored; fields that an older peer lacks take their defaults, so
a rolling upgrade works.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, get_origin, get_type_hints

import msgpack

FRAME = {"frame": True}
INLINE_BYTES = 4096
"""Measured: a frame costs ZeroMQ and its binding as much as copying about that many bytes a few times."""
UNREADABLE = (ValueError, IndexError, TypeError, OverflowError, msgpack.UnpackException)
"""What unpacking raises. TypeError: an array as a key of a map."""


class EnvelopeError(ValueError):
    """Frames that are no batch of envelopes, or fields that no frame can hold. The text names the kind and field."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnknownEnvelope:
    """An envelope of a kind that this node does not know: newer peers may send some. Counted, never fatal."""

    kind: int


def constructor(cls: type) -> Callable[..., Any]:
    """Makes envelopes of a class as `cls(...)` does, in a third of the time.

    The constructor of a frozen dataclass sets each field by a call, and envelopes are made half a million times a
    second. So they are made as a twin with the same slots that is not frozen, and are given their class afterwards.
    """
    copied = ("default", "default_factory")
    fields = [
        (f.name, f.type, dataclasses.field(**{name: getattr(f, name) for name in copied}))
        for f in dataclasses.fields(cls)
    ]
    twin: Callable[..., Any] = dataclasses.make_dataclass(cls.__name__, fields, slots=True)

    def make(*values: Any) -> Any:
        envelope = twin(*values)
        envelope.__class__ = cls
        return envelope

    return make


class _Kind:
    __slots__ = ("checks", "count", "framed", "make", "names", "read", "required", "types")

    def __init__(self, cls: type) -> None:
        fields = dataclasses.fields(cls)
        hints = get_type_hints(cls)
        self.make = constructor(cls)
        self.framed = bool(fields) and bool(fields[-1].metadata.get("frame"))
        flat = fields[:-1] if self.framed else fields
        self.names = [f.name for f in flat]
        self.read = _reader(self.names)
        self.required = sum(
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING for f in flat
        )
        self.checks: list[Any] = []
        for f in flat:
            hint = get_origin(hints[f.name]) or hints[f.name]
            self.checks.append((int, float) if hint is float else hint)
        self.count = len(flat)
        self.types = [check for check in self.checks if isinstance(check, type)]

    def check(self, kind: int, values: list[Any]) -> None:
        """Raises EnvelopeError unless the values are those of an envelope of this kind."""
        if len(values) < self.required:
            raise EnvelopeError(f"kind {kind}: expected {self.required} fields or more, got {len(values)}")
        for value, check, name in zip(values, self.checks, self.names, strict=False):
            if not isinstance(value, check):
                raise EnvelopeError(f"kind {kind}, field {name}: unexpected {type(value).__name__}")
        if self.framed and len(values) < len(self.checks):
            raise EnvelopeError(f"kind {kind}: expected {len(self.checks)} fields, got {len(values)}")


def _reader(names: list[str]) -> Callable[[Any], Sequence[Any]]:
    """What gives the fields of an envelope as a sequence."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda envelope: [getattr(envelope, name) for name in names]


class Codec:
    """Packs and unpacks the envelopes of one table from kind number to class."""

    def __init__(self, table: Mapping[int, type]) -> None:
        self._by_kind = {kind: _Kind(cls) for kind, cls in table.items()}
        self._by_class = {cls: (kind, self._by_kind[kind]) for kind, cls in table.items()}

    def pack(self, envelopes: Iterable[Any]) -> list[bytes]:
        """Frames of a batch: the array, then the payloads. Raises EnvelopeError for fields that msgpack has no form for."""
        rows: list[tuple[Any, ...]] = []
        frames: list[bytes] = [b""]
        by_class = self._by_class
        for envelope in envelopes:
            kind, spec = by_class[type(envelope)]
            if spec.framed:
                payload = envelope.payload
                if len(payload) <= INLINE_BYTES:
                    rows.append((kind, payload, *spec.read(envelope)))
                else:
                    rows.append((-kind, *spec.read(envelope)))
                    frames.append(payload)
            else:
                rows.append((kind, *spec.read(envelope)))
        try:
            frames[0] = msgpack.packb(rows, unicode_errors="surrogatepass")
        except (TypeError, ValueError, OverflowError) as error:
            raise EnvelopeError(f"batch: not packable: {error}") from error
        return frames

    def unpack(self, frames: Sequence[Any]) -> list[Any]:
        """Envelopes of a batch; kinds not in the table come as UnknownEnvelope. Raises EnvelopeError."""
        try:
            rows = msgpack.unpackb(bytes(frames[0]), strict_map_key=False, unicode_errors="surrogatepass")
        except UNREADABLE as error:
            raise EnvelopeError(f"batch: not readable: {error}") from error
        if type(rows) is not list:
            raise EnvelopeError(f"batch: expected an array of envelopes, got {type(rows).__name__}")
        return self._rows(rows, frames)

    def _rows(self, rows: list[Any], frames: Sequence[Any]) -> list[Any]:
        envelopes: list[Any] = []
        at = 1
        by_kind = self._by_kind
        for row in rows:
            if type(row) is not list or not row or type(row[0]) is not int:
                raise EnvelopeError("batch: expected [kind, field, ...]")
            kind = row[0]
            payload: bytes | None = None
            if kind < 0:
                kind = -kind
                if at >= len(frames):
                    raise EnvelopeError(f"kind {kind}: its payload frame is missing")
                payload = frames[at] if type(frames[at]) is bytes else bytes(frames[at])
                at += 1
            spec = by_kind.get(kind)
            if spec is None:
                envelopes.append(UnknownEnvelope(kind))
                continue
            first = 1
            if spec.framed and payload is None:
                if len(row) < 2 or type(row[1]) is not bytes:
                    raise EnvelopeError(f"kind {kind}: its payload is missing")
                payload, first = row[1], 2
            elif payload is not None and not spec.framed:
                raise EnvelopeError(f"kind {kind}: a payload frame, expected none")
            values = row[first : first + spec.count]
            if [*map(type, values)] != spec.types:
                spec.check(kind, values)
            if payload is not None:
                values.append(payload)
            envelopes.append(spec.make(*values))
        return envelopes
