"""What a run of the edges' chaos suite is about, and what came of it."""

from dataclasses import dataclass, field
from statistics import median

from rich.table import Table

from support.chaos_checks import Findings, History, Media
from support.chaos_clients import RING_S, Pauses
from support.waiting import TIME_FACTOR

_SILENCE_S = 0.15


@dataclass(frozen=True)
class Bounds:
    """How long a client may wait at most when an edge is killed, and when it hangs; and at kills in the median. What the defaults
    say is promised for machines with cores to spare."""

    killed_s: float = 1.5
    hung_s: float = 4.0
    median_s: float = 0.3


@dataclass(frozen=True)
class Config:
    """What is run: `kills`, then `hangs`. `programs`: whether ffmpeg and rtmpdump take part."""

    balancer: str = "nginx"
    store: str = "sqlite"
    edges: int = 2
    origins: int = 2
    kills: int = 20
    hangs: int = 2
    clients: int = 40
    groups: int = 8
    publishers: int = 2
    players: int = 4
    programs: bool = True
    seed: int = 1
    bounds: Bounds = field(default_factory=Bounds)


class Timings(Pauses):
    """How long every answer took: (asked at, seconds, who)."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(findings)
        self.all: list[tuple[float, float, str]] = []

    def answered(self, asked_s: float, who: str) -> None:
        """See Pauses."""
        super().answered(asked_s, who)
        self.all.append((asked_s, self._clock() - asked_s, who))

    def waits(self, fault_s: float, until_s: float) -> list[float]:
        """Of each client: how long it waited at most, from the fault on, for what it asked for until then."""
        worst: dict[str, float] = {}
        for asked, took, who in self.all:
            if asked < until_s and asked + took > fault_s:
                worst[who] = max(worst.get(who, 0.0), asked + took - max(asked, fault_s))
        return list(worst.values())


class TimedMedia(Media):
    """Remembers each silence over 0.15 s: (since, seconds)."""

    def __init__(self, history: History, what: str) -> None:
        super().__init__(history, what, RING_S)
        self.silences: list[tuple[float, float]] = []
        self._heard_s = 0.0

    def frame(self, number: int, keyframe: bool) -> None:
        """See Media."""
        super().frame(number, keyframe)
        now_s = self._history.now_s
        if self._heard_s and now_s - self._heard_s > _SILENCE_S:
            self.silences.append((self._heard_s, now_s - self._heard_s))
        self._heard_s = now_s


@dataclass(slots=True)
class Fault:
    """One of them: a kill, or a hang. `waits_s`: of each client; `silence_s`: the longest of a player; `programs`: who ended."""

    text: str
    begin_s: float
    kill: bool
    back_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    silence_s: float = 0.0
    programs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """What came of it."""

    config: Config
    findings: Findings
    faults: list[Fault]
    counts: dict[str, int]
    failures: dict[str, int]

    @property
    def waits_s(self) -> list[float]:
        """Of all clients at all kills."""
        return [wait for fault in self.faults if fault.kill for wait in fault.waits_s]

    def late(self) -> list[str]:
        """Where a bound was not kept."""
        bounds = self.config.bounds
        found: list[str] = []
        for fault in self.faults:
            bound_s = bounds.killed_s if fault.kill else bounds.hung_s
            for who, waited_s in (
                ("a client", max(fault.waits_s, default=0.0)),
                ("a player", fault.silence_s),
            ):
                if waited_s > bound_s * TIME_FACTOR:
                    found.append(f"{fault.text}: {who} waited {waited_s:.2f} s, bound {bound_s:g} s")
        if self.waits_s and median(self.waits_s) > bounds.median_s * TIME_FACTOR:
            found.append(f"median {median(self.waits_s):.2f} s, bound {bounds.median_s:g} s")
        return found

    def report(self) -> str:
        """For whoever has to find the reason of a failure; empty where there was none."""
        if not self.findings:
            return ""
        script = [f"{fault.begin_s:8.2f} s  {fault.text}" for fault in self.faults]
        return "\n".join([*script, self.findings.report()])


def table(result: Result) -> Table:
    """The faults, and what they cost."""
    config = result.config
    shown = Table(
        title=f"{config.balancer}, {config.store}, {config.edges} edges, {config.origins} origins, seed {config.seed}"
    )
    for column in ("at s", "fault", "median s", "worst s", "player's silence s", "ended"):
        shown.add_column(column, justify="left" if column in ("fault", "ended") else "right")
    for fault in result.faults:
        shown.add_row(
            f"{fault.begin_s:.1f}",
            fault.text,
            f"{median(fault.waits_s or [0]):.3f}",
            f"{max(fault.waits_s, default=0):.2f}",
            f"{fault.silence_s:.2f}",
            " ".join(fault.programs),
        )
    return shown
