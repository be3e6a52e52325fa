"""What can go wrong with RTMP: text says what was seen, what was expected, and where."""


class RtmpError(ValueError):
    """Anything wrong with RTMP bytes or with the use of this package."""


class LocalProtocolError(RtmpError):
    """We asked for what the protocol, or the state of the connection, does not allow."""


class RemoteProtocolError(RtmpError):
    """The peer sent what the protocol does not allow, or what goes over a limit. The connection is dead after it."""
