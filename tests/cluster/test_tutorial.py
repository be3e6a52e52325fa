"""The tutorial of docs/applications.md, done as it is written, in a folder of its own beside a cluster."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cluster import BIN, ROOT, Cluster
from support.waiting import TIME_FACTOR, eventually

pytestmark = pytest.mark.cluster

PAGE = (ROOT / "docs" / "applications.md").read_text()


def blocks(language: str) -> list[str]:
    """The page's code of that kind, in its order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


class Reader:
    """Somebody who follows the page in `folder`."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.log = folder / "origin.log"
        self._origin: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        env = {**os.environ, **self.cluster.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
        # Its own data folder, as where the page says it is.
        del env["HEADWATER_DATA"]
        return env

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text.replace("rtmp://127.0.0.1/", self.cluster.shared_url("")))

    def run(self, command: str, stdin: str = "") -> str:
        """Run one command line, which must succeed; its output."""
        done = subprocess.run(
            command.replace("rtmp://127.0.0.1/", self.cluster.shared_url("")),
            shell=True,
            cwd=self.folder,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60 * TIME_FACTOR,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve(self, command: str) -> None:
        """Start the origin and wait until it is there."""
        before = self.log.read_text().count("registered") if self.log.exists() else 0
        program, *arguments = command.split()
        with open(self.log, "ab") as log:
            origin = self._origin = subprocess.Popen(
                [str(BIN / program), *arguments], cwd=self.folder, env=self.env, stdout=log, stderr=log
            )

        def is_there() -> bool:
            assert origin.poll() is None, self.log.read_text()
            return self.log.read_text().count("registered") > before

        eventually(is_there, within_s=30, what="origin-3 is registered")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._origin is not None:
            self._origin.send_signal(number)
            self._origin.wait(20 * TIME_FACTOR)
            self._origin = None


@pytest.fixture
def reader(make_cluster: Callable[..., Cluster], tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, make_cluster({"origin": 0, "edge": 1}))
    try:
        yield reader
    finally:
        reader.stop()


def test_a_chat_with_history_from_an_empty_folder(reader: Reader) -> None:
    application, client, greeting, listening, *rest = blocks("python")
    _, _, checking, talking, watching, *_ = blocks("sh")
    check, serve = checking.splitlines()
    reader.write("rooms.py", application)
    reader.write("talk.py", client)
    assert "say" in reader.run(check)
    reader.serve(serve)
    ann = talking.splitlines()[-1]
    assert ann == "python talk.py ann"
    ann = ann.replace("python", sys.executable, 1)
    said = reader.run(ann, stdin="hello\nagain\n")
    assert said.splitlines() == ["ann: hello", "ann: again"]

    reader.stop(signal.SIGKILL)
    reader.serve(serve)
    said = reader.run(ann.replace("ann", "bob"), stdin="there\n\n")
    assert said.splitlines()[:3] == ["ann: hello", "ann: again", "bob: there"]
    assert "Rooms.BadText" in said.splitlines()[3]
    shown = reader.run("headwater-client so rtmp://127.0.0.1/rooms/lobby log --persistent --arg eve --json")
    assert '"3": {"nick": "bob", "text": "there"}' in shown
    shown = reader.run(watching.strip().replace(" --watch", " --json"))
    assert '"eve"' in shown

    # Changed while it runs.
    reader.write("rooms.py", application.replace("[client.id] = nick\n", f"[client.id] = nick\n{greeting}"))
    eventually(lambda: "reloaded" in reader.log.read_text(), within_s=20)
    reader.write("talk.py", client.replace("with connection:", f"{listening}with connection:"))
    assert re.search(r"^\d are here$", reader.run(ann), re.MULTILINE)

    # And its test with bots.
    (bots,) = [block for block in rest if "CallFailed" in block]
    reader.write("bots.py", bots)
    reader.run(f"{sys.executable} bots.py")
    assert "Traceback" not in reader.log.read_text()
