"""A real program beside the chaos suite's clients: an ffmpeg publishes, another one records, and neither is ever restarted."""

import signal
import subprocess
from pathlib import Path

from support.chaos_checks import Findings, History, check_run_of
from support.media import H264_AAC, make_source, packets, packets_of_file, start_publisher, start_recorder
from support.recorder import playable
from support.waiting import eventually

NAME = "ffmpeg"
_SOURCE_S = 20
_LONG_S = 24 * 3600
_END_S = 20.0


class Recording:
    """What is recorded, over the other edge than it is published on."""

    def __init__(self, ffmpeg: str, urls: tuple[str, str], folder: Path, findings: Findings) -> None:
        self.history = History(NAME, findings)
        self._ffmpeg, self._urls, self._folder = ffmpeg, urls, folder
        self._hashes = folder / "recorded.md5"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Publish, and begin to record."""
        self._source = make_source(self._ffmpeg, H264_AAC, _SOURCE_S, self._folder)
        publish_url, play_url = self._urls
        log = self._folder / "ffmpeg-publisher.log"
        self._processes.append(
            start_publisher(self._ffmpeg, self._source, publish_url, H264_AAC, log, repeated=True)
        )
        scope, _, name = play_url.rpartition("/")
        eventually(lambda: playable(scope, name), within_s=15, what="ffmpeg publishes")
        self._processes.append(start_recorder(self._ffmpeg, play_url, _LONG_S, self._hashes))
        eventually(lambda: len(self._lines()) > 50, within_s=30, what="ffmpeg records")

    def _lines(self) -> list[str]:
        return self._hashes.read_text().splitlines() if self._hashes.exists() else []

    def end(self) -> None:
        """End both."""
        for process, what in zip(self._processes, ("publisher", "recorder"), strict=True):
            if process.poll() is not None:
                text = f"the {what} has ended with status {process.returncode}: {self._log(what)}"
                self.history.wrong("disconnected", text)
            process.send_signal(signal.SIGINT)
        # Not `wait`: the proxies must go on meanwhile.
        try:
            eventually(lambda: all(process.poll() is not None for process in self._processes), _END_S)
        except AssertionError:
            self.history.wrong("not ended", "ffmpeg does not end when it is told to")
            self.kill()

    def finish(self, seconds: float) -> None:
        """Compare, when both have ended; they have run for so long."""
        sent = packets_of_file(self._ffmpeg, self._source)
        received = packets(self._lines())
        for kind, least_per_s in (("video", 25), ("audio", 46)):
            # The last seconds may still have been on their way.
            at_least = int(least_per_s * max(1.0, seconds - 10))
            check_run_of(self.history, kind, sent[kind], received[kind], at_least)
            self.history.note(f"{kind}: {len(received[kind])} packets")

    def _log(self, what: str) -> str:
        path = self._folder / ("ffmpeg-publisher.log" if what == "publisher" else "recorded.log")
        return path.read_text(errors="replace")[-500:]

    def kill(self) -> None:
        """End both at once, where they run still."""
        for process in self._processes:
            process.kill()
            process.wait()
