"""The faults of the chaos suite: a script that a seed decides, what is done when, and what came of it."""

import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

import gevent

from support.chaos_checks import Findings, History
from support.chaos_cluster import ChaosCluster
from support.cluster import BIN, ROOT
from support.proxy import Cut
from support.waiting import eventually

SERVED_S = 45.0
"""How long it may take until every client is served again."""
_HANG_S = 6.0
_COMMAND_S = 60.0
_LEAST = 2
"""Faults of a run, however long each of them takes."""
_LOOK_S = 0.05
_KILL, _HANG, _CUT, _MOVE = "kill", "hang", "cut", "move"
KINDS = (_KILL, _HANG, _CUT, _MOVE)


@dataclass(slots=True)
class Fault:
    """One of them. `end_s` is when it was undone; `served_s` how long after its begin everybody was served again, where that
    was waited for."""

    begin_s: float
    text: str
    end_s: float = 0.0
    outcome: str = ""
    served_s: float | None = None


class Script:
    """Does what `kinds` allow. `unserved(t)`: the clients that were not served after t. At least one origin is left in peace,
    always."""

    def __init__(
        self,
        cluster: ChaosCluster,
        seed: int,
        kinds: tuple[str, ...],
        unserved: Callable[[float], list[str]],
        findings: Findings,
        say: Callable[[str], None],
    ) -> None:
        self._cluster, self._unserved, self._say = cluster, unserved, say
        self._chance = random.Random(seed)
        self._clock = findings.clock
        self.history = History("script", findings)
        self.faults: list[Fault] = []
        self._disturbed: set[str] = set()
        """Processes that something is being done to."""
        self._running: list[gevent.Greenlet[..., None]] = []
        # What is most often worth trying comes most often.
        self._choices = [
            choice
            for kind, choices in {
                _KILL: [self._kill_origin] * 4 + [self._kill_control] * 3,
                _HANG: [self._hang_origin] * 2 + [self._hang_control],
                _CUT: [self._cut_origin] * 4,
                _MOVE: [self._move] * 3 + [self._rebalance] + [self._drain],
            }.items()
            if kind in kinds
            for choice in choices
        ]

    def run(self, seconds: float) -> None:
        """Faults for so long, and some at least; returns when all of them are undone and the nodes registered."""
        end_s = self._clock() + seconds
        while self._choices and (self._clock() < end_s or len(self.faults) < _LEAST):
            before = len(self.faults)
            fault = gevent.spawn(self._one, self._chance.choice(self._choices))
            self._running.append(fault)
            if self._chance.random() < 0.6:
                fault.join()
                if len(self.faults) > before:
                    self._wait_served(self.faults[before])
                gevent.sleep(self._chance.uniform(0, 1.5))
            else:
                gevent.sleep(self._chance.uniform(0.2, 4.0))
        if not self._choices:
            gevent.sleep(seconds)
        gevent.joinall(self._running)

    def _wait_served(self, fault: Fault) -> None:
        now_s = self._clock()
        try:
            eventually(lambda: not self._unserved(now_s), SERVED_S, every_s=_LOOK_S)
        except AssertionError:
            waiting = ", ".join(self._unserved(now_s))
            self.history.wrong("not served", f"for {SERVED_S:g} s after {fault.text}: {waiting}")
        else:
            fault.served_s = self._clock() - fault.begin_s

    def _one(self, choice: Callable[[], None]) -> None:
        try:
            choice()
        except AssertionError as error:
            self.history.wrong("not served", str(error))

    @contextmanager
    def _fault(self, text: str, *disturbed: str) -> Any:
        fault = Fault(self._clock(), text)
        self.faults.append(fault)
        self.history.note(text)
        self._say(f"{fault.begin_s:7.2f} s  {text}")
        self._disturbed.update(disturbed)
        try:
            yield fault
        finally:
            self._disturbed.difference_update(disturbed)
            fault.end_s = self._clock()
            if fault.outcome:
                self._say(f"{fault.end_s:7.2f} s  {text}: {fault.outcome}")

    def _origin(self) -> str | None:
        """One that may be disturbed; rather one with many groups."""
        well = [name for name in self._cluster.links if name not in self._disturbed]
        if len(well) < 2:
            return None
        owners = Counter(self._cluster.groups().values())
        weights = [1 + owners[name.replace(".", "-")] for name in well]
        # Others may have begun something meanwhile.
        name = self._chance.choices(well, weights)[0]
        return (
            name
            if name not in self._disturbed and len(self._disturbed & self._cluster.links.keys()) < 2
            else None
        )

    def _control(self) -> str | None:
        names = [*self._cluster.names_of("registry"), *self._cluster.names_of("balancer")]
        well = [name for name in names if name not in self._disturbed]
        return self._chance.choice(well) if well else None

    # Faults

    def _kill_origin(self) -> None:
        self._kill(self._origin())

    def _kill_control(self) -> None:
        self._kill(self._control())

    def _kill(self, name: str | None) -> None:
        if name is None:
            return
        away_s = self._chance.choice((0.0, self._chance.uniform(0, 5)))
        with self._fault(f"kill -9 {name}, start it after {away_s:.1f} s", name):
            self._cluster.kill_now(name)
            gevent.sleep(away_s)
            self._cluster.start_process(name)
            self._cluster.wait_known(name)

    def _hang_origin(self) -> None:
        self._hang(self._origin())

    def _hang_control(self) -> None:
        self._hang(self._control())

    def _hang(self, name: str | None) -> None:
        if name is None:
            return
        with self._fault(f"SIGSTOP {name} for {_HANG_S:g} s", name):
            self._cluster.hang(name)
            gevent.sleep(_HANG_S)
            self._cluster.kill(name, signal.SIGCONT)
            self._cluster.wait_known(name)

    def _cut_origin(self) -> None:
        name = self._origin()
        if name is None:
            return
        how = self._chance.choice((Cut.RESET, Cut.SILENT))
        registries, edges = self._chance.choice(((True, True), (True, True), (True, False), (False, True)))
        for_s = self._chance.uniform(0.5, 6.0)
        what = (
            "all links"
            if registries and edges
            else "the links to the registry"
            if registries
            else "the edges' links"
        )
        with self._fault(f"cut {what} of {name}, {how}, for {for_s:.1f} s", name):
            self._cluster.links[name].cut(how, registries, edges)
            gevent.sleep(for_s)
            self._cluster.heal(name)
            self._cluster.wait_known(name)

    def _move(self) -> None:
        groups = self._cluster.groups()
        origins = [name.replace(".", "-") for name in self._cluster.links]
        if not groups:
            return
        group = self._chance.choice(sorted(groups))
        origin = self._chance.choice([origin for origin in origins if origin != groups[group]])
        self._order("move", group, origin)

    def _rebalance(self) -> None:
        self._order("rebalance", "--yes")

    def _drain(self) -> None:
        name = self._origin()
        if name is None:
            return
        origin = name.replace(".", "-")
        with self._fault(f"headwater-balancer drain {origin}", name) as fault:
            fault.outcome = self._command("drain", origin)
            gevent.sleep(self._chance.uniform(1, 5))
            self._until_done("undrain", origin)

    def _order(self, *command: str) -> None:
        with self._fault(f"headwater-balancer {' '.join(command)}") as fault:
            fault.outcome = self._command(*command)

    def _until_done(self, *command: str) -> None:
        """A command that must be carried out some time."""
        eventually(
            lambda: self._command(*command) == "done", SERVED_S, f"headwater-balancer {' '.join(command)}"
        )

    def _command(self, *command: str) -> str:
        """What came of it: a refusal is none of our business."""
        with TemporaryFile() as output:
            process = subprocess.Popen(
                [str(BIN / "headwater-balancer"), *command],
                cwd=ROOT,
                env=self._cluster.command_env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                # Not `wait`: the proxies must go on meanwhile.
                eventually(lambda: process.poll() is not None, _COMMAND_S, every_s=_LOOK_S)
            except AssertionError:
                process.kill()
                process.wait()
                return f"no end within {_COMMAND_S:g} s"
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        if "Traceback" in text:
            self.history.wrong("traceback", f"headwater-balancer {' '.join(command)}: {text}")
        return "done" if process.returncode == 0 else f"status {process.returncode}: {text[-200:]}"
