"""`headwater-origin serve --reload`: an application's file changes under a client's eyes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from headwater_client import NetConnection
from support.cluster import Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster

ROOM = """
from headwater_origin import Application, Client, remote
from reloaded_words import WORD


class Room(Application):
    allow_shared_objects = True

    def on_connect(self, client: Client, nick: str) -> None:
        client.attributes["nick"] = nick

    @remote
    def hello(self, client: Client) -> list[object]:
        self.state["calls"] = self.state.get("calls", 0) + 1
        return [WORD, client.attributes["nick"], self.state["calls"]]
"""


def test_a_client_stays_while_its_application_is_taken_anew(
    make_cluster: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "reloaded_words.py").write_text("WORD = 'one'\n")
    (tmp_path / "reloaded_room.py").write_text(ROOM)
    cluster = make_cluster({"origin": 1, "edge": 1}, {"origin": "--reload --app reloaded=reloaded_room:Room"})
    with NetConnection(cluster.rtmp_url(1, "reloaded/a"), "ann", timeout_s=10 * TIME_FACTOR) as client:
        board = client.shared_object("board")
        board.wait_synced()
        board["x"] = 1.0
        assert client.call("hello") == ["one", "ann", 1.0]

        (tmp_path / "reloaded_words.py").write_text("WORD = 'two'\n")
        eventually(lambda: "changed=" in cluster.log("origin.1"), within_s=10)
        assert client.call("hello") == ["two", "ann", 2.0]

        (tmp_path / "reloaded_room.py").write_text(ROOM + "    def on_conect(self) -> None: ...\n")
        eventually(lambda: "reload failed" in cluster.log("origin.1"), within_s=10)
        assert "did you mean on_connect?" in cluster.log("origin.1")
        assert client.call("hello") == ["two", "ann", 3.0]

        (tmp_path / "reloaded_words.py").write_text("WORD = 'three'\n")
        (tmp_path / "reloaded_room.py").write_text(ROOM)
        eventually(lambda: client.call("hello")[0] == "three", within_s=10)
        assert client.call("hello")[1] == "ann"
        board["y"] = 2.0
        with NetConnection(cluster.rtmp_url(1, "reloaded/a"), "bob", timeout_s=10 * TIME_FACTOR) as other:
            seen = other.shared_object("board")
            seen.wait_synced()
            eventually(lambda: dict(seen) == {"x": 1.0, "y": 2.0}, within_s=10)
            assert other.call("hello")[:2] == ["three", "bob"]
