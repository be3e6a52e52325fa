"""What a store raises."""


class StoreError(Exception):
    """The store cannot do what was asked. The text names the file or server, what was seen and what to do about it."""


class StoreAway(StoreError):
    """The server or disk cannot be reached, or is busy or full, for now. Whether the call changed anything is not known; the
    same call may be made again later."""


class Fenced(StoreError):
    """A group's journal belongs to another owner: `epoch` is the one that the store has, higher than the caller's, or the
    same where two processes were given one epoch and the other one wrote first."""

    def __init__(self, group: str, epoch: int) -> None:
        super().__init__(f"group {group}: its journal is held by the owner of epoch {epoch}")
        self.group, self.epoch = group, epoch


class WentBack(StoreError):
    """The store has lost entries: `tail` is the last that it has, `expected` the last that was there. Both are equal where
    only the opening of the journal was lost."""

    def __init__(self, group: str, tail: int, expected: int) -> None:
        super().__init__(
            f"group {group}: the store went back in time: its journal ends at entry {tail}, was at {expected}"
        )
        self.group, self.tail, self.expected = group, tail, expected


class Held(StoreError):
    """A record's lease is another's, `holder`, and still runs."""

    def __init__(self, key: str, holder: str) -> None:
        super().__init__(f"{key}: held by {holder}")
        self.key, self.holder = key, holder


class Lost(StoreError):
    """A record is not the caller's any more: somebody took or dropped it, or it expired."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: taken by another since, or expired")
        self.key = key
