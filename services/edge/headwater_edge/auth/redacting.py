"""What may be logged of an address or of a stream's name."""

import re

_USER = re.compile(r"(?<=//)[^/?#]*@")
_BEHIND = re.compile(r"[?#&=%;]")


def redacted(name: str) -> str:
    """Without user and password, and without all that stands behind the path. Clients write queries in their own ways
    (`name&token=x`, `name%3Ftoken=x`): whatever could begin one does."""
    path = _BEHIND.split(_USER.sub("", name), maxsplit=1)[0]
    return path if len(path) == len(name) else f"{path}..."
