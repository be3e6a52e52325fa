"""The origin of a spread stream fails together with its player's edge: the player goes on over another one, at the new origin. No
sockets."""

from typing import Any

from headwater_bus import traffic
from headwater_origin import Application
from headwater_origin.session_state import pack_state
from headwater_rtmp.command import encode_command
from support.journal_bench import JournaledBench, memory_journals
from support.origin_bench import ME, FakeLink, settle
from support.waiting import eventually

GROUP = "app/room#stream:a"
_VIDEO, _COMMAND = 9, 15
_KEYFRAME, _PICTURE = b"\x17\x01\0\0\0", b"\x27\x01\0\0\0"


class App(Application):
    streams = "spread"


class Guests:
    """One origin with a publisher and a player, both guests, each by an edge of its own."""

    def __init__(self, bench: JournaledBench, epoch: int) -> None:
        bench.change("group", GROUP, ME, epoch)
        self.bench, self._epoch = bench, epoch
        self.publishing, self.playing = bench.edge(), bench.edge()

    def attach(self, link: FakeLink, number: int, **said: Any) -> None:
        how: dict[str, Any] = {
            "address": "192.0.2.7",
            "object_encoding": 0,
            "resumed": False,
            "type_id": 0,
            "applied": 0,
            "heard": 0,
            "state": b"",
            "objects": [],
            "streams": [],
            "guest_streams": [],
            "fence": 0,
            **said,
        }
        self._take(link, traffic.Attach(number, f"session-{number}", GROUP, self._epoch, *how.values()))
        eventually(lambda: self._last(link, traffic.Attached), 10)

    def command(self, link: FakeLink, number: int, *command: Any) -> None:
        message = encode_command(command[0], 0, None, *command[1:], stream_id=1)
        self._take(link, traffic.FromGuest(number, 1, _COMMAND, [], message.type_id, 1, 0, message.payload))

    def publish(self, numbers: range) -> None:
        eventually(self.publishes, 10)
        stream = self.publishes().stream
        for number in numbers:
            payload = (_KEYFRAME if number == 1 else _PICTURE) + bytes([number])
            self._take(self.publishing, traffic.PublisherMedia(stream, number, _VIDEO, number * 10, payload))

    def told(self) -> list[int]:
        """The pictures that the player alone was told."""
        kinds = (message for message in self.playing.log if isinstance(message, traffic.ToClient))
        return [message.payload[-1] for message in kinds if message.type_id == _VIDEO]

    def publishes(self) -> Any:
        return self._last(self.publishing, traffic.PublishStarted)

    def started(self) -> Any:
        return self._last(self.playing, traffic.PlayStarted)

    def _last(self, link: FakeLink, kind: type) -> Any:
        return next((said for said in reversed(link.log) if isinstance(said, kind)), None)

    def _take(self, link: FakeLink, envelope: Any) -> None:
        self.bench.origin.batch(link, [envelope])  # type: ignore[arg-type]
        settle()
        self.bench.committed()
        settle()


def test_a_player_whose_edge_and_origin_fail_goes_on_where_it_was() -> None:
    before = Guests(JournaledBench(App, memory_journals()), 1)
    before.attach(before.publishing, 1)
    before.attach(before.playing, 2, fence=5)
    before.command(before.publishing, 1, "publish", "a", "live")
    before.command(before.playing, 2, "play", "a")
    eventually(lambda: before.publishes() and before.started(), 10)
    states = [
        pack_state(link.data.sessions[number])
        for number, link in ((1, before.publishing), (2, before.playing))
    ]
    before.publish(range(1, 11))
    before.bench.crash()

    # The publisher's edge is there first, with all that it keeps. The player had heard the stream to its eighth picture.
    after = Guests(before.bench.successor(), 2)
    after.attach(after.publishing, 1, resumed=True, applied=1, state=states[0])
    after.publish(range(1, 13))
    after.attach(after.playing, 2, resumed=True, applied=1, state=states[1], streams=[["a", 8, 1]], fence=6)
    eventually(after.started, 10)
    assert after.started().resumed
    assert after.told() == [9, 10, 11, 12]
