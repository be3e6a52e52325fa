"""Names that clients choose: streams and SharedObjects."""

import re

_NAME = re.compile(r"[\w\-.~@:+=,;!()'&/ ]{1,256}")


class BadName(ValueError):
    """A name that is not accepted; the text says why."""


def check_name(name: object) -> str:
    """The name itself. Raises BadName: not a string, empty, over 256 characters, control or shell characters, `..`."""
    if not isinstance(name, str):
        raise BadName(f"expected a name, got {type(name).__name__}")
    if _NAME.fullmatch(name) is None:
        raise BadName("a name has 1 to 256 letters, digits, spaces or any of - _ . ~ @ : + = , ; ! ( ) ' & /")
    if ".." in name:
        raise BadName("a name must not contain '..'")
    return name


def split_stream_name(name: object) -> tuple[str, str]:
    """Stream name and query of `name?query`. Raises BadName."""
    if not isinstance(name, str):
        raise BadName(f"expected a stream name, got {type(name).__name__}")
    path, _, query = name.partition("?")
    if len(query) > 4096:
        raise BadName("the query behind a stream name has at most 4096 characters")
    return check_name(path), query
