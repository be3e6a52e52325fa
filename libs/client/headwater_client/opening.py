"""From an address to something that carries RTMP, and what a client says of itself at connect."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headwater_rtmp.capabilities import CapsEx, FourCcInfo
from headwater_rtmp.chunk import ChunkLimits
from headwater_rtmp.connection import Connection
from headwater_rtmp.connection import Event as RtmpEvent
from headwater_rtmp.url import RtmpUrl, parse_rtmp_url

from headwater_client.dialing import Dialer, TlsSettings, error_text
from headwater_client.errors import ConnectError
from headwater_client.http_posts import HttpPosts, PostFailed
from headwater_client.tcp_transport import TcpTransport
from headwater_client.transport import Transport
from headwater_client.tunnel_transport import TunnelRefused, TunnelTransport, open_tunnel

_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class Opening:
    """How connections are made: what does not change from one to the next."""

    limits: ChunkLimits
    digest: bool = False
    tls: TlsSettings = field(default_factory=TlsSettings)
    patience_s: float = 15.0
    """How long a request of RTMPT is repeated."""

    def open(
        self,
        target: RtmpUrl,
        asked: str,
        deadline: float,
        on_event: Callable[[Transport, RtmpEvent], None],
        on_closed: Callable[[Transport], None],
    ) -> Transport:
        """Not started yet. `deadline`: monotonic seconds. Raises ConnectError."""
        left_s = max(_LEAST_S, deadline - time.monotonic())
        rtmp = Connection.client(digest=self.digest, limits=self.limits)
        try:
            dialer = Dialer(target.host, target.port, self.tls if target.secure else None)
        except OSError as error:
            raise ConnectError(asked, text=f"{self.tls.ca_file}: {error_text(error)}") from error
        try:
            if not target.tunnelled:
                return TcpTransport(dialer.dial(left_s), rtmp, target.tc_url, on_event, on_closed)
            posts = HttpPosts(dialer, target.usual_port)
            try:
                session_id = open_tunnel(posts, left_s)
            except BaseException:
                posts.close()
                raise
        except OSError as error:
            raise ConnectError(asked, text=f"{target.host}:{target.port}: {error_text(error)}") from error
        except (PostFailed, TunnelRefused) as error:
            raise ConnectError(asked, text=f"{target.host}:{target.port}: {error}") from error
        return TunnelTransport(posts, session_id, rtmp, target.tc_url, on_event, on_closed, self.patience_s)


def target_of(asked: str, url: str) -> RtmpUrl:
    """Where a URL leads. Raises ConnectError for one that is none."""
    try:
        target = parse_rtmp_url(url, with_stream=False)
    except ValueError as error:
        raise ConnectError(asked, text=str(error)) from error
    if not target.app:
        raise ConnectError(asked, text=f"{url!r}: expected {target.scheme}://HOST[:PORT]/APP[/INSTANCE]")
    return target


def command_object(target: RtmpUrl, amf3: bool, reconnects: bool) -> dict[str, Any]:
    """The first argument of connect. Enhanced RTMP v2: whatever the codec, we publish, play or record it. `reconnects`: we do as
    a ReconnectRequest asks."""
    every = {"*": float(FourCcInfo.CAN_DECODE | FourCcInfo.CAN_ENCODE | FourCcInfo.CAN_FORWARD)}
    caps_ex = CapsEx.MULTITRACK | CapsEx.MOD_EX | CapsEx.TIMESTAMP_NANO_OFFSET
    return {
        "app": target.app,
        "flashVer": "LNX 9,0,124,2",
        "tcUrl": target.tc_url,
        "fpad": False,
        "capabilities": 239.0,
        "audioCodecs": 4095.0,
        "videoCodecs": 252.0,
        "videoFunction": 1.0,
        "objectEncoding": 3.0 if amf3 else 0.0,
        "fourCcList": ["*"],
        "videoFourCcInfoMap": dict(every),
        "audioFourCcInfoMap": dict(every),
        "capsEx": float(caps_ex | CapsEx.RECONNECT if reconnects else caps_ex),
    }
