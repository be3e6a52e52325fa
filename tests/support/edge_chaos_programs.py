"""Real programs beside the clients of the edges' chaos suite: an ffmpeg publishes by RTMPT, an ffmpeg and an rtmpdump record, and
none of them knows how to begin again."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import gevent

from support.chaos_checks import Findings, History, check_run_of
from support.media import (
    H264_AAC,
    make_source,
    packets,
    packets_of_file,
    start_publisher,
    start_recorder,
)
from support.recorder import playable
from support.waiting import TIME_FACTOR, eventually

_SOURCE_S = 20
_LONG_S = 24 * 3600
_END_S = 20.0
_LOOK_S = 0.5
_YOUNG_S = 5.0
_STREAM = "program"
_SETTLED_BYTES = 50_000


class Program:
    """One of them. When it has ended by itself it is started again: `failures` says when it had run until then (seconds), but not
    when it ended at once, over the same trouble."""

    def __init__(self, name: str, start: Callable[[int], "subprocess.Popen[bytes]"], now_s: float) -> None:
        self.name, self._start = name, start
        self.failures: list[float] = []
        self.starts = 0
        self.run(now_s)

    def run(self, now_s: float) -> None:
        """Start it."""
        self.process = self._start(self.starts)
        self.starts += 1
        self._since_s = now_s

    def look(self, now_s: float) -> bool:
        """Whether it has ended."""
        if self.process.poll() is None:
            return False
        if self.starts == 1 or now_s - self._since_s > _YOUNG_S:
            self.failures.append(now_s)
        return True


class Programs:
    """A publisher and two players, all through the balancer at `url`, which is that of a scope. `direct`: the scope by RTMP, at
    an edge. `may_fail`: an end is counted, and no finding: not every balancer repeats every request."""

    def __init__(
        self, tools: dict[str, str], url: str, direct: str, folder: Path, findings: Findings, may_fail: bool
    ) -> None:
        self.history = History("programs", findings)
        self._tools, self._url, self._direct = tools, url, direct
        self._folder, self._may_fail = folder, may_fail
        self._programs: list[Program] = []
        self._watching: gevent.Greenlet[..., None] | None = None

    @property
    def failures(self) -> dict[str, int]:
        """How often each has ended by itself."""
        return {program.name: len(program.failures) for program in self._programs}

    def failed_since(self, begin_s: float) -> list[str]:
        """Names of those that have ended by themselves since."""
        return [
            program.name for program in self._programs if any(at_s >= begin_s for at_s in program.failures)
        ]

    def start(self) -> None:
        """Publish, play, and wait until all is on its way."""
        self._source = make_source(self._tools["ffmpeg"], H264_AAC, _SOURCE_S, self._folder)
        self._programs.append(Program("publisher", self._publish, self.history.now_s))
        eventually(lambda: playable(self._direct, _STREAM), 15, what="ffmpeg publishes by RTMPT")
        for name, start in (("ffmpeg", self._record), ("rtmpdump", self._dump)):
            self._programs.append(Program(name, start, self.history.now_s))
        eventually(lambda: all(self._size(path) > _SETTLED_BYTES for path in self._files()), 30, "all record")
        self._watching = gevent.spawn(self._watch)

    def _publish(self, number: int) -> "subprocess.Popen[bytes]":
        url = f"{self._url}/{_STREAM}"
        log = self._folder / f"publisher-{number}.log"
        return start_publisher(self._tools["ffmpeg"], self._source, url, H264_AAC, log, repeated=True)

    def _record(self, number: int) -> "subprocess.Popen[bytes]":
        hashes = self._folder / f"ffmpeg-{number}.md5"
        return start_recorder(self._tools["ffmpeg"], f"{self._url}/{_STREAM}", _LONG_S, hashes)

    def _dump(self, number: int) -> "subprocess.Popen[bytes]":
        with open(self._folder / f"rtmpdump-{number}.log", "wb") as log:
            return subprocess.Popen(
                [self._tools["rtmpdump"], "-v", "-r", f"{self._url}/{_STREAM}", "-o", str(self._flv(number))],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _flv(self, number: int) -> Path:
        return self._folder / f"rtmpdump-{number}.flv"

    def _files(self) -> list[Path]:
        return [self._folder / "ffmpeg-0.md5", self._flv(0)]

    def _size(self, path: Path) -> int:
        return path.stat().st_size if path.exists() else 0

    def _watch(self) -> None:
        while True:
            gevent.sleep(_LOOK_S)
            for program in self._programs:
                if program.look(self.history.now_s):
                    self.history.note(f"{program.name} has ended")
                    if not self._may_fail:
                        self.history.wrong("disconnected", f"{program.name} has ended: {self._said(program)}")
                    program.run(self.history.now_s)

    def _said(self, program: Program) -> str:
        path = self._folder / f"{program.name}-{program.starts - 1}.log"
        return path.read_text(errors="replace")[-500:]

    def end(self) -> None:
        """End all of them."""
        if self._watching is not None:
            self._watching.kill()
        for program in reversed(self._programs):
            program.process.send_signal(signal.SIGINT)
        try:
            eventually(lambda: all(program.process.poll() is not None for program in self._programs), _END_S)
        except AssertionError:
            self.history.wrong("not ended", "a program does not end when it is told to")
            self.kill()

    def finish(self, seconds: float) -> None:
        """Compare what was recorded, when all have ended; they have run for so long."""
        if any(program.starts > 1 for program in self._programs):
            return  # What was recorded is in pieces.
        sent = packets_of_file(self._tools["ffmpeg"], self._source)
        recorded = {
            "ffmpeg": packets(self._files()[0].read_text().splitlines()),
            "rtmpdump": packets_of_file(self._tools["ffmpeg"], self._flv(0)),
        }
        for name, received in recorded.items():
            for kind, least_per_s in (("video", 25), ("audio", 46)):
                # The last seconds may still have been on their way, and a busy machine is late.
                at_least = int(least_per_s * max(1.0, seconds - 10) / TIME_FACTOR)
                check_run_of(self.history, f"{name}: {kind}", sent[kind], received[kind], at_least)
                self.history.note(f"{name}: {kind}: {len(received[kind])} packets")

    def kill(self) -> None:
        """End all at once, where they run still."""
        if self._watching is not None:
            self._watching.kill()
        for program in self._programs:
            program.process.kill()
            program.process.wait()
