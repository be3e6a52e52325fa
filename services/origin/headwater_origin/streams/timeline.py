"""The time of a stream whose publisher has followed another one."""

from headwater_rtmp.media import MediaFlags, inspect
from headwater_rtmp.message import DATA, Message

_WHOLE = 1 << 32
"""Timestamps are modulo this."""
_HEADER = int(MediaFlags.SEQUENCE_HEADER)


class Timeline:
    """Moves the timestamps of a publisher behind those of the one that it follows: its first audio or video comes as much later
    as time has passed, and none comes before the last one. `shift` in ms, -1 as long as it is not known."""

    __slots__ = ("_last", "_last_at", "shift")

    def __init__(self, last: int | None, last_at: float, shift: int = -1) -> None:
        self._last, self._last_at, self.shift = last, last_at, shift
        """The timestamp of the last message before, None: not known any more; and when that came, in monotonic seconds."""

    def move(self, message: Message, now: float) -> bool:
        """Give a message its time in the stream. Returns whether `shift` is known from this one on."""
        found = False
        if self.shift < 0:
            target = ((self._last or 0) + max(0, round((now - self._last_at) * 1000))) % _WHOLE
            if message.type_id in DATA or int(inspect(message).flags) & _HEADER:
                # These may have another time than what comes behind them.
                message.timestamp = target
                return False
            self.shift, found = (target - message.timestamp) % _WHOLE, True
        moved = (message.timestamp + self.shift) % _WHOLE
        if self._last is not None and (moved - self._last) % _WHOLE > _WHOLE // 2:
            moved = self._last
        message.timestamp = moved
        return found
