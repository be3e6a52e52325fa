"""Envelopes to ZeroMQ frames and back.

A batch is one msgpack frame, an array of flat arrays `[kind, field, field, ...]`, followed by one frame for
each payload (a field declared with `metadata={"frame": True}`, always the last), in order and uncopied. The
kind of an envelope that has a payload frame is written negated, so that a reader who does not know the kind
still knows which frame belongs to which envelope.
Fields that a newer peer adds at the end are ignored; fields that an older peer lacks take their defaults, so
a rolling upgrade works.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_origin, get_type_hints

import msgpack


class EnvelopeError(ValueError):
    """Frames that are not a batch of envelopes. The text names the kind and field."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnknownEnvelope:
    """An envelope of a kind that this node does not know: newer peers may send some. Counted, never fatal."""

    kind: int


class _Kind:
    __slots__ = ("checks", "cls", "framed", "read", "required")

    def __init__(self, cls: type) -> None:
        fields = dataclasses.fields(cls)
        hints = get_type_hints(cls)
        self.cls: Callable[..., Any] = cls
        self.framed = bool(fields) and bool(fields[-1].metadata.get("frame"))
        flat = fields[:-1] if self.framed else fields
        self.read = [f.name for f in flat]
        self.required = sum(
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING for f in flat
        )
        self.checks: list[Any] = []
        for f in flat:
            hint = get_origin(hints[f.name]) or hints[f.name]
            self.checks.append((int, float) if hint is float else hint)


class Codec:
    """Packs and unpacks the envelopes of one table from kind number to class."""

    def __init__(self, table: Mapping[int, type]) -> None:
        self._by_kind = {kind: _Kind(cls) for kind, cls in table.items()}
        self._by_class = {cls: (kind, self._by_kind[kind]) for kind, cls in table.items()}

    def pack(self, envelopes: Iterable[Any]) -> list[bytes]:
        """Frames of a batch: the array, then the payloads."""
        rows: list[list[Any]] = []
        frames: list[bytes] = [b""]
        for envelope in envelopes:
            kind, spec = self._by_class[type(envelope)]
            if spec.framed:
                rows.append([-kind, *[getattr(envelope, name) for name in spec.read]])
                frames.append(envelope.payload)
            else:
                rows.append([kind, *[getattr(envelope, name) for name in spec.read]])
        frames[0] = msgpack.packb(rows)
        return frames

    def unpack(self, frames: Sequence[Any]) -> list[Any]:
        """Envelopes of a batch; kinds not in the table come as UnknownEnvelope. Raises EnvelopeError."""
        try:
            rows = msgpack.unpackb(bytes(frames[0]), strict_map_key=False)
            if type(rows) is not list:
                raise EnvelopeError(f"batch: expected an array of envelopes, got {type(rows).__name__}")
            return self._rows(rows, frames)
        except EnvelopeError:
            raise
        except (ValueError, IndexError, msgpack.UnpackException) as error:
            raise EnvelopeError(f"batch: not readable: {error}") from error

    def _rows(self, rows: list[Any], frames: Sequence[Any]) -> list[Any]:
        envelopes: list[Any] = []
        at = 1
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
            spec = self._by_kind.get(kind)
            if spec is None:
                envelopes.append(UnknownEnvelope(kind))
                continue
            if spec.framed is (payload is None):
                raise EnvelopeError(
                    f"kind {kind}: payload frame {'missing' if spec.framed else 'unexpected'}"
                )
            values = row[1 : 1 + len(spec.checks)]
            if len(values) < spec.required:
                raise EnvelopeError(
                    f"kind {kind}: expected {spec.required} fields or more, got {len(values)}"
                )
            for value, check, name in zip(values, spec.checks, spec.read, strict=False):
                if not isinstance(value, check):
                    raise EnvelopeError(f"kind {kind}, field {name}: unexpected {type(value).__name__}")
            if payload is None:
                envelopes.append(spec.cls(*values))
            else:
                envelopes.append(spec.cls(*values, payload=payload))
        return envelopes
