"""Players that record a stream."""

import subprocess
from pathlib import Path

from headwater_client import NetConnection, StreamError

from support.waiting import eventually

_SOME_BYTES = 150_000
"""About 1.5 s of `media.make_source`."""


class Recorder:
    """An ffmpeg that writes what it plays into a file until the stream ends."""

    def __init__(self, ffmpeg: str, url: str, output: Path) -> None:
        self.output = output
        self._log = output.with_suffix(".log")
        quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [ffmpeg, *quiet, "-i", url, "-map", "0", "-c", "copy", "-flush_packets", "1", str(output)],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def size(self) -> int:
        """Bytes that it has written."""
        return self.output.stat().st_size if self.output.exists() else 0

    def await_more(self) -> None:
        """Wait until it has written a second or two more."""
        enough = self.size + _SOME_BYTES
        eventually(lambda: self.size > enough, within_s=15, what=f"{self.output.name} grows: {self.said}")

    @property
    def said(self) -> str:
        """Its errors."""
        return self._log.read_text()


def playable(url: str, name: str) -> bool:
    """Whether somebody publishes it."""
    try:
        with NetConnection(url) as connection:
            connection.create_stream().play(name)
    except StreamError:
        return False
    return True
