"""What a benchmark needs to know of a server under test. `nginx` and `headwater` have one each; other peers come beside them."""

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.errors import BenchError
from bench.processes import Program
from bench.session import Target


class Server(ABC):
    """A server in a temporary folder, on one core (None: on any). Use as a context manager: it starts on entering and is gone
    afterwards.

    `label` names it with its settings in tables; `groups` are the process groups whose costs are told apart, the first the
    one that does the work. `core_group`: the group of all that runs on `core`; what is not of it runs on the load's.
    `makes_stream`: it needs no publisher.
    """

    label: str
    groups: tuple[str, ...]
    core_group = "all"
    makes_stream = False

    def __init__(self, core: int | None) -> None:
        self.core = core
        self._folder = tempfile.TemporaryDirectory(prefix="headwater-bench-")
        self._programs: dict[str, list[Program]] = {}

    @property
    def folder(self) -> Path:
        """For configuration and logs."""
        return Path(self._folder.name)

    @property
    @abstractmethod
    def target(self) -> Target:
        """Where to publish, and to play where there is no other place."""

    @property
    def play_targets(self) -> tuple[Target, ...]:
        """Where to play: players are spread over these."""
        return (self.target,)

    @abstractmethod
    def start(self) -> None:
        """Start the programs; they need not be ready yet. Raises BenchError."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """What it was run with, for the report; `version` is shown to people too."""

    def add(self, program: Program, *groups: str) -> None:
        """A started program counts for these groups."""
        for group in groups:
            self._programs.setdefault(group, []).append(program)

    def programs(self) -> list[Program]:
        """All of them, once each, in the order of their start."""
        return list(dict.fromkeys(program for group in self._programs.values() for program in group))

    def remove(self, name: str) -> Program:
        """Forget the program of this name: it was ended on purpose. Raises KeyError."""
        found = self.program(name)
        self._programs = {
            group: [each for each in programs if each is not found]
            for group, programs in self._programs.items()
        }
        return found

    def program(self, name: str) -> Program:
        """The one of this name. Raises KeyError."""
        for each in self.programs():
            if each.name == name:
                return each
        raise KeyError(name)

    def processes(self, group: str) -> list[psutil.Process]:
        """The processes that count for a group."""
        return [process for program in self._programs.get(group, []) for process in program.processes()]

    def check(self) -> None:
        """Raises BenchError when one of its programs has ended."""
        for program in self.programs():
            program.check()

    def last_words(self, beside: str) -> list[str]:
        """What its programs said last, each line once; lines that are in the text `beside` already are left out."""
        said: dict[str, str] = {}
        for program in self.programs():
            if (line := program.tail()) and line not in beside:
                said.setdefault(line, program.name)
        return [f"{name}: {line}" for line, name in said.items()]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BenchError as error:
            text = "; ".join([f"{self.label}: {error}", *self.last_words(str(error))])
            self.stop()
            raise BenchError(text, failed=True) from error
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the programs, last first, and remove the folder."""
        for program in reversed(self.programs()):
            program.stop()
        self._programs.clear()
        self._folder.cleanup()
