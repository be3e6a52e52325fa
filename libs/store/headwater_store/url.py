"""Store URLs: `SCHEME:PATH?option=value`. The scheme chooses the engine, `durability` what `committed` means."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from headwater_store.errors import StoreError

DURABILITIES = ("process", "power")
"""`process`: no kill of a process loses a commit (the default). `power`: no loss of power does either; slower."""


@dataclass(frozen=True, slots=True, repr=False)
class StoreUrl:
    """A parsed URL. `path` is what follows the scheme, percent-decoded; its meaning is the engine's, and so is that of
    `options` other than the durability. `raw` is the path as it was written: it may hold a password."""

    scheme: str
    path: str
    durability: str = "process"
    options: dict[str, str] = field(default_factory=dict)
    raw: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> "StoreUrl":
        """Raises StoreError for text that is no store URL, or an option that is given twice."""
        scheme, colon, rest = text.partition(":")
        raw, _, query = rest.partition("?")
        if not colon or not (raw or scheme == "memory"):
            raise StoreError(f"store {shown_url(text)!r}: expected SCHEME:PATH, such as sqlite:data")
        if "@" in query:
            raise StoreError(
                f"store {shown_url(text)!r}: ? stands before @; a password's special characters are written %3F, %40, %2F, %3A"
            )
        options: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in options:
                raise StoreError(f"store {shown_url(text)!r}: option {name} is given twice, expected once")
            options[name] = value
        durability = options.pop("durability", "process")
        if durability not in DURABILITIES:
            raise StoreError(
                f"store {shown_url(text)!r}: option durability={durability}: "
                "expected durability=process or =power"
            )
        return cls(scheme, unquote(raw), durability, options, raw)

    def only(self, *known: str) -> None:
        """Raises StoreError where there are options that the engine does not know."""
        for name in self.options:
            if name not in known:
                options = ", ".join(("durability", *known))
                raise StoreError(f"store {self}: option {name} is not known; expected {options}")

    def number(self, option: str, default: int, most: int, least: int = 1) -> int:
        """The value of an option that is a number. Raises StoreError for any other, or one out of range."""
        text = self.options.get(option, str(default))
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise StoreError(
                f"store {self}: option {option}={text}: expected a number from {least} to {most}"
            )
        return int(text)

    def __str__(self) -> str:
        return shown_url(f"{self.scheme}:{self.raw or self.path}")

    def __repr__(self) -> str:
        return f"StoreUrl({str(self)!r}, {self.durability!r})"


def shown_url(text: str) -> str:
    """A store URL for logs and errors: without user, password and options."""
    return re.sub(r"//.*@", "//***@", text).partition("?")[0]


def sqlite_url(folder: Path) -> str:
    """The URL of a folder of SQLite files, whatever characters its name has."""
    return f"sqlite:{quote(str(folder))}"
