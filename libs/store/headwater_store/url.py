"""Store URLs: `SCHEME:PATH?option=value`. The scheme chooses the engine, `durability` what `committed` means."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from headwater_store.errors import StoreError

DURABILITIES = ("process", "power")
"""`process`: no kill of a process loses a commit (the default). `power`: no loss of power does either; slower."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A parsed URL. `path` is what follows the scheme, percent-decoded; its meaning is the engine's."""

    scheme: str
    path: str
    durability: str = "process"

    @classmethod
    def parse(cls, text: str) -> "StoreUrl":
        """Raises StoreError for text that is no store URL or has options that nobody knows."""
        scheme, colon, rest = text.partition(":")
        path, _, query = rest.partition("?")
        if not colon or not path:
            raise StoreError(f"store {text!r}: expected SCHEME:PATH, such as sqlite:data")
        durability = "process"
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name != "durability" or value not in DURABILITIES:
                raise StoreError(
                    f"store {text!r}: option {name}={value}: expected durability=process or =power"
                )
            durability = value
        return cls(scheme, unquote(path), durability)


def sqlite_url(folder: Path) -> str:
    """The URL of a folder of SQLite files, whatever characters its name has."""
    return f"sqlite:{quote(str(folder))}"
