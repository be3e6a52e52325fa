"""What the examples call people: the first argument of connect."""

from headwater_origin import Reject

LONGEST_NICK = 32


def checked_nick(nick: object) -> str:
    """A nick without the space around it; `/` is kept for names that are made of it. Raises Reject, which a call answers too."""
    text = " ".join(nick.split()) if isinstance(nick, str) else ""
    if not 0 < len(text) <= LONGEST_NICK or not text.isprintable() or "/" in text:
        raise Reject(
            f"a nick has 1 to {LONGEST_NICK} printable characters, no '/': it is the first argument of connect"
        )
    return text
