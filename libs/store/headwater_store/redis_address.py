"""Where a Redis is, as store URLs say it: `redis://`, `rediss://` (TLS), `redis+sentinel://`."""

from dataclasses import dataclass, field
from urllib.parse import unquote

from headwater_store.errors import StoreError
from headwater_store.url import StoreUrl

MAX_REPLICAS = 16
_PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379}
_FORMS = {
    "redis": "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]",
    "rediss": "rediss://[[USER]:PASSWORD@]HOST[:PORT][/DB]",
    "redis+sentinel": "redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB]",
}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A server (`hosts` has one, `service` is empty), or Sentinels that know where `service` is. Options of the URL:
    `replicas` (so many must have a write before it is committed), `aof=unchecked` (nobody makes sure that the server keeps
    what it has), `ca` (file with the authorities that TLS trusts, instead of the system's)."""

    shown: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    tls: bool
    ca: str | None
    durability: str
    replicas: int
    aof_checked: bool

    @classmethod
    def parse(cls, url: StoreUrl) -> "RedisAddress":
        """Raises StoreError."""
        url.only("replicas", "aof", "ca", "files")
        if url.options.get("aof", "unchecked") != "unchecked":
            raise StoreError(f"store {url}: option aof={url.options['aof']}: expected aof=unchecked, or none")
        wrong = StoreError(f"store {url}: expected {_FORMS[url.scheme]}")
        slashes, _, rest = url.raw.partition("//")
        userinfo, _, place = rest.rpartition("@")
        username, _, password = userinfo.partition(":")
        hosts, *path = place.rstrip("/").split("/")
        service = ""
        if url.scheme == "redis+sentinel":
            if not path:
                raise wrong
            service = unquote(path.pop(0))
        if slashes or len(path) > 1 or not (path or ["0"])[0].isdecimal():
            raise wrong
        found = tuple(_host(host, _PORTS[url.scheme]) for host in hosts.split(","))
        if None in found or (len(found) > 1 and not service):
            raise wrong
        return cls(
            shown=str(url),
            hosts=tuple(host for host in found if host is not None),
            service=service,
            db=int(path[0]) if path else 0,
            username=unquote(username) or None,
            password=unquote(password) or None,
            tls=url.scheme == "rediss",
            ca=url.options.get("ca"),
            durability=url.durability,
            replicas=url.number("replicas", 0, MAX_REPLICAS, 0),
            aof_checked="aof" not in url.options,
        )


def _host(text: str, default_port: int) -> tuple[str, int] | None:
    """HOST, HOST:PORT or [IPV6]:PORT; None for anything else."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        good = bool(bracket) and (not rest or rest.startswith(":"))
    else:
        host, colon, port = text.partition(":")
        good = not colon or bool(port)
    if not host or not good or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        return None
    return unquote(host), int(port or default_port)
