"""Applications and clients with streams, for tests of the commands of streams."""

from typing import Any

from headwater_origin import Application

from support.origin_bench import Bench, FakeClient


class Open(Application):
    allow_publish = True


class Waiting(Open):
    wait_for_publisher = True


def streaming(bench: Bench, group: str = "app/room") -> FakeClient:
    """A client with message stream 1."""
    client = bench.joined(bench.edge(), group)
    client.command("createStream", transaction=2)
    client.take()
    return client


def started(stream_id: int = 1, reset: bool = True) -> list[Any]:
    """What the player of `a` is told."""
    told: list[Any] = [("StreamBegin", stream_id)]
    if reset:
        told.append(("onStatus", stream_id, "NetStream.Play.Reset"))
    told.append(("onStatus", stream_id, "NetStream.Play.Start"))
    told.append(("data", stream_id, "|RtmpSampleAccess", True, True))
    return told
