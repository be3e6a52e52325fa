"""The load generator in C (`bench/native`): how it is compiled, started, told and heard.

One process does any mix of players, publishers and idle clients, on one epoll; `load.c` says what it understands. It reads
the chunks of every connection, so nothing that a player gets is only counted.
"""

import contextlib
import json
import os
import select
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench import native_build
from bench.errors import BenchError
from bench.processes import on_core
from bench.session import Target
from bench.stream import (
    AAC_FRAME_SAMPLES,
    AUDIO_RATE_HZ,
    StreamShape,
    audio_size,
    frame_sizes,
    header_messages,
)

_PROGRAM = "rtmp_load"
_STOP_S = 5.0
_READ_BYTES = 1 << 20


def build() -> Path:
    """The program, compiled if need be. Raises BenchError."""
    return native_build.build(_PROGRAM)


@dataclass(frozen=True, slots=True)
class Durations:
    """Counted durations, in ns, exact to 1/128."""

    max_ns: int = 0
    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, said: dict[str, Any]) -> Self:
        """From what the program says."""
        return cls(int(said["max_ns"]), dict(said["counts"]))

    def __add__(self, other: "Durations") -> "Durations":
        counts = dict(self.counts)
        for middle, count in other.counts.items():
            counts[middle] = counts.get(middle, 0) + count
        return Durations(max(self.max_ns, other.max_ns), counts)

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.counts.values())

    def percentile_ms(self, percent: float) -> float:
        """The least that so many percent do not exceed; 0 of none."""
        rank = max(1.0, self.total * percent / 100)
        for middle in sorted(self.counts):
            rank -= self.counts[middle]
            if rank <= 0:
                return min(middle, self.max_ns) / 1e6
        return 0.0

    @property
    def max_ms(self) -> float:
        """The longest."""
        return self.max_ns / 1e6


@dataclass(frozen=True, slots=True)
class NativeWindow:
    """What one process of the load saw between "begin" and "end"; `native/client.h` says more. `bytes_each`: what each player
    received; `messages`: stamped ones that players got; `sent`: by publishers; `cpu_s`: of the process."""

    wall_s: float
    cpu_s: float
    messages: int
    missing: int
    disordered: int
    closed: int
    sent: int
    backlog_bytes: int
    latency: Durations
    gap: Durations
    lag: Durations
    bytes_each: list[int]

    @classmethod
    def of(cls, said: dict[str, Any]) -> Self:
        """From what the program says."""
        durations = {name: Durations.of(said[name]) for name in ("latency", "gap", "lag")}
        return cls(**{**said, **durations})


class NativeProgram:
    """A program of the load, running on `core` (None: on any). Use as a context manager, or `stop` it."""

    def __init__(self, program: Path, core: int | None, name: str = "load") -> None:
        self.name, self.core = name, core
        with on_core(core):
            self._process = subprocess.Popen(
                [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def give_way(self) -> None:
        """What else runs on its core is not interrupted for all that comes for it: it takes that when the others wait."""
        os.sched_setscheduler(self._process.pid, os.SCHED_BATCH, os.sched_param(0))

    def tell(self, *words: object) -> None:
        """Give it an order."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.hear(0)  # What it said before it ended is better than what we know.
            raise BenchError(f"{self.name} is gone", failed=True) from None

    def hear(self, timeout_s: float) -> dict[str, Any] | None:
        """The next thing it says, or None. Raises BenchError when it failed or died."""
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            fd = self._process.stdout.fileno()
            if not select.select([fd], (), (), timeout_s)[0]:
                return None
            data = os.read(fd, _READ_BYTES)
            if not data:
                raise BenchError(f"{self.name} died with status {self._process.wait()}", failed=True)
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        if said.pop("event") == "failed":
            raise BenchError(f"{self.name}: {said['text']}", failed=True)
        return said

    def stop(self) -> None:
        """End it, kindly and then not."""
        with contextlib.suppress(BenchError):
            self.tell("stop")
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


class NativeLoad(NativeProgram):
    """Players, publishers and idle clients: `load.c`."""

    def describe(self, shape: StreamShape) -> None:
        """What publishers send from now on."""
        self.tell("headers", *(message.payload.hex() for message in header_messages(shape, 1)))
        audio = (AAC_FRAME_SAMPLES, AUDIO_RATE_HZ, audio_size(shape))
        self.tell("shape", shape.frames_s, *audio, *frame_sizes(shape))

    def publish(self, target: Target, count: int, under_way: int = 16, first: int = 0) -> None:
        """Publish target.stream-`first` and so on."""
        self.tell("publish", target.host, target.port, target.app, target.stream, count, under_way, first)

    def play(
        self,
        target: Target,
        count: int,
        streams: int = 1,
        stride: int = 1,
        first: int = 0,
        under_way: int = 64,
    ) -> None:
        """Player n plays stream (`first` + n * `stride`) % `streams`."""
        what = (target.host, target.port, target.app, target.stream)
        self.tell("play", *what, count, under_way, streams, stride, first)

    def hold(self, target: Target, count: int, under_way: int) -> None:
        """Connect and do nothing."""
        self.tell("hold", target.host, target.port, target.app, count, under_way)

    def window(self, timeout_s: float) -> NativeWindow:
        """The window ends now. Raises BenchError."""
        self.tell("end")
        said = self.hear(timeout_s)
        while said is not None and "latency" not in said:
            said = self.hear(timeout_s)
        if said is None:
            raise BenchError(f"{self.name} did not report within {timeout_s:.0f} s", failed=True)
        return NativeWindow.of(said)
