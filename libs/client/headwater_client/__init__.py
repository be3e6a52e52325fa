"""An RTMP client for Python programs, bots and tests: NetConnection, NetStream, SharedObject.

    with NetConnection("rtmp://127.0.0.1/chat/lobby", "ann") as connection:  # or rtmps, rtmpt, rtmpts
        print(connection.call("say", "hello"))
        board = connection.shared_object("board")
        board.wait_synced()
        board["x"] = 1.0
        board.flush()

Everything waits cooperatively on gevent's loop; nothing needs monkey patching.
"""

from headwater_client.errors import (
    CallFailed,
    ClientError,
    ConnectError,
    ConnectionClosed,
    SharedObjectError,
    StreamError,
    TimedOut,
)
from headwater_client.flv_files import Progress
from headwater_client.media_queue import Ending
from headwater_client.net_connection import NetConnection
from headwater_client.net_stream import NetStream
from headwater_client.object_state import ChangeEvent, ChangeKind
from headwater_client.probing import Tried, first_way, probe
from headwater_client.shared_object import SharedObject

__all__ = [
    "CallFailed",
    "ChangeEvent",
    "ChangeKind",
    "ClientError",
    "ConnectError",
    "ConnectionClosed",
    "Ending",
    "NetConnection",
    "NetStream",
    "Progress",
    "SharedObject",
    "SharedObjectError",
    "StreamError",
    "TimedOut",
    "Tried",
    "first_way",
    "probe",
]
