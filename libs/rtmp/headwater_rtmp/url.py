"""RTMP addresses, read as ffmpeg and Flash read them."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_INSTANCE = "_definst_"
_PORTS = {"rtmp": 1935, "rtmps": 443, "rtmpt": 80, "rtmpts": 443}
SCHEMES = tuple(_PORTS)
_NAME = re.compile(r"[A-Za-z0-9_.~\-]{1,128}")


@dataclass(frozen=True, slots=True)
class RtmpUrl:
    """`app` is application and instance (`chat/lobby`), `stream` what follows; either may be empty."""

    scheme: str
    host: str
    port: int
    app: str
    stream: str
    tc_url: str

    @property
    def secure(self) -> bool:
        """Whether it is within TLS."""
        return self.scheme in ("rtmps", "rtmpts")

    @property
    def tunnelled(self) -> bool:
        """Whether it is in HTTP requests."""
        return self.scheme in ("rtmpt", "rtmpts")

    @property
    def usual_port(self) -> int:
        """That of the scheme, which need not be written."""
        return _PORTS[self.scheme]

    def by(self, scheme: str, port: int) -> str:
        """The address of the same application and stream by another way."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = "/".join(part for part in (self.app, self.stream) if part)
        return f"{scheme}://{host}:{port}/{path}"


def parse_rtmp_url(url: str, with_stream: bool = True) -> RtmpUrl:
    """Take an address apart. With a stream (`rtmp://host/app[/instance]/stream`) the last part of the path is its name, and a
    query is the stream's; in `rtmp://host/app?query/stream` it is the application's. Without, the whole path is the application.
    Raises ValueError with what was expected."""
    form = f"rtmp://HOST[:PORT]/APP[/INSTANCE]{'/STREAM' if with_stream else ''}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url[:256]!r}: {error}; expected {form}") from error
    if parts.scheme not in SCHEMES or not parts.hostname or port == 0:
        raise ValueError(f"{url[:256]!r}: expected {form}, of {', '.join(SCHEMES)}")
    if port is None:
        port = _PORTS[parts.scheme]
    path = parts.path.strip("/")
    query = f"?{parts.query}" if parts.query else ""
    app, stream = path + query, ""
    if with_stream and "/" in path:
        pieces = path.split("/")
        # A colon, as in `mp4:dir/file`, begins a stream's name.
        depth = 1 if len(pieces) < 3 or ":" in pieces[1] else 2
        app, stream = "/".join(pieces[:depth]), "/".join(pieces[depth:]) + query
    elif with_stream:
        # `live?token=x/a`: the query is the application's.
        app, _, stream = app.partition("/")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = host if port == _PORTS[parts.scheme] else f"{host}:{port}"
    return RtmpUrl(parts.scheme, parts.hostname, port, app, stream, f"{parts.scheme}://{shown}/{app}")


def split_app(app: str) -> tuple[str, str]:
    """(application, instance) of connect's `app`: `live?key=x` is (`live`, `_definst_`), `chat/lobby` (`chat`, `lobby`); an
    instance may have parts of its own (`chat/eu/lobby`). Raises ValueError for names that are not made of letters, digits
    and `_.~-`, and for `.` and `..`."""
    name, _, instance = app.partition("?")[0].strip("/").partition("/")
    instance = instance.strip("/") or DEFAULT_INSTANCE
    for part in (name, *instance.split("/")):
        if not _NAME.fullmatch(part) or part in (".", ".."):
            raise ValueError(
                f"application {app[:64]!r}: expected NAME[/INSTANCE] of letters, digits and _.~-"
            )
    return name, instance
