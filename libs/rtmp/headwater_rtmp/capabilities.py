"""Enhanced RTMP v2: what the two ends of a connection say of themselves at connect (enhanced-rtmp-v2, "connect")."""

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any


class CapsEx(IntFlag):
    """Bits of `capsEx`."""

    RECONNECT = 1
    MULTITRACK = 2
    MOD_EX = 4
    TIMESTAMP_NANO_OFFSET = 8


class FourCcInfo(IntFlag):
    """Bits of the values of `videoFourCcInfoMap` and `audioFourCcInfoMap`."""

    CAN_DECODE = 1
    CAN_ENCODE = 2
    CAN_FORWARD = 4


_MAX_CODECS = 64
_SAID = frozenset(("fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a client can do beyond the classic protocol; `enhanced` is False where it said nothing of it."""

    enhanced: bool = False
    fourcc: frozenset[str] = frozenset()
    video: dict[str, int] = field(default_factory=dict)
    audio: dict[str, int] = field(default_factory=dict)
    caps_ex: CapsEx = CapsEx(0)  # noqa: RUF009


_CLASSIC = Capabilities()


def _info_map(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {
        key: int(bits)
        for key, bits in list(value.items())[:_MAX_CODECS]
        if isinstance(key, str) and isinstance(bits, int | float) and 0 <= bits < 256
    }


def parse_capabilities(command_object: Any) -> Capabilities:
    """The capabilities in a connect command object. What is not of the expected form is as if it were not there."""
    if not isinstance(command_object, dict) or _SAID.isdisjoint(command_object):
        return _CLASSIC
    listed = command_object.get("fourCcList")
    fourcc = (
        frozenset(item for item in listed[:_MAX_CODECS] if isinstance(item, str))
        if isinstance(listed, list)
        else frozenset()
    )
    bits = command_object.get("capsEx")
    caps_ex = CapsEx(int(bits) & 0xF) if isinstance(bits, int | float) and 0 <= bits < 2**31 else CapsEx(0)
    video = _info_map(command_object.get("videoFourCcInfoMap"))
    audio = _info_map(command_object.get("audioFourCcInfoMap"))
    return Capabilities(True, fourcc, video, audio, caps_ex)


def relay_capabilities() -> dict[str, Any]:
    """What a server answers that forwards every codec untouched: fields of the properties object of `_result`."""
    forward = {"*": float(FourCcInfo.CAN_FORWARD)}
    return {
        "fourCcList": ["*"],
        "videoFourCcInfoMap": dict(forward),
        "audioFourCcInfoMap": dict(forward),
        "capsEx": float(CapsEx.RECONNECT | CapsEx.MULTITRACK | CapsEx.MOD_EX | CapsEx.TIMESTAMP_NANO_OFFSET),
    }
