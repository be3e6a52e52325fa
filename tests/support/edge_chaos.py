"""The chaos suite of the edges: clients that check everything they see come by RTMPT through a balancer, while one edge after the
other is killed, or hangs.

    python -m support.edge_chaos --balancer nginx --store redis --kills 20
"""

import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import click
import gevent
from rich.console import Console

from support.balancers import Balancer
from support.chaos_checks import Findings, History
from support.chaos_clients import Group, Member, Player, Publisher
from support.chaos_crowd import Crowd
from support.edge_chaos_cluster import BALANCERS, EdgeCluster, needed, running
from support.edge_chaos_programs import Programs
from support.edge_chaos_results import Config, Fault, Result, TimedMedia, Timings, table
from support.waiting import eventually

_HANG_S = 6.0
_SERVED_S = 45.0
_WINDOW_S = 2.0
"""What is asked so long after a fault still belongs to it."""
_LOOK_S = 0.05
_PROGRAMS_SCOPE = "chaos/programs"
Say = Callable[[str], None]


class EdgeChaos(Crowd):
    """One run."""

    def __init__(
        self, config: Config, cluster: EdgeCluster, balancer: Balancer, tools: dict[str, str], say: Say
    ) -> None:
        self._config, self._cluster, self._balancer, self._say = config, cluster, balancer, say
        began = time.monotonic()
        super().__init__(Findings(lambda: time.monotonic() - began))
        self.timings = Timings(self.findings)
        self._history = History("script", self.findings)
        self._chance = random.Random(config.seed)
        self.faults: list[Fault] = []
        self.groups = [
            Group(f"chaos/g{number + 1:02}", self.findings, self.timings, False)
            for number in range(config.groups)
        ]
        for number in range(config.clients):
            group = self.groups[number % config.groups]
            place = len(group.members)
            url = balancer.url("rtmpt", group.scope)
            group.members.append(Member(url, f"{group.scope[-3:]}-{place + 1}", place % 3 == 0, group))
        for number in range(config.publishers):
            url = balancer.url("rtmpt", self.groups[number % config.groups].scope)
            publisher = Publisher(url, f"cam{number + 1}", number % 2 == 1, self.findings)
            self.publishers.append(publisher)
            for place in range(number, config.players, config.publishers):
                player = Player(url, publisher, place + 1, place % 3 == 0, self.findings)
                player.media = TimedMedia(player.history, publisher.name)
                self.players.append(player)
        self._programs = (
            Programs(
                tools,
                balancer.url("rtmpt", _PROGRAMS_SCOPE),
                cluster.rtmp_url(1, _PROGRAMS_SCOPE),
                cluster.folder,
                self.findings,
                config.balancer == "haproxy",
            )
            if config.programs
            else None
        )

    def _wait_served(self, begin_s: float, what: str) -> None:
        try:
            eventually(lambda: not self.unserved(begin_s), _SERVED_S, every_s=_LOOK_S)
        except AssertionError:
            self._history.wrong(
                "not served", f"for {_SERVED_S:g} s after {what}: {', '.join(self.unserved(begin_s))}"
            )

    def run(self) -> Result:
        """All of it; what is wrong is in the result. Raises what keeps it from beginning."""
        with ExitStack() as ending:
            if self._programs is not None:
                ending.callback(self._programs.kill)
                self._programs.start()
            self._begin()
            began_s = self.findings.clock()
            self._say(
                f"{began_s:7.2f} s  {len(self.members)} members, {len(self.players)} players are served"
            )
            self._break()
            if not self.settle():
                self._say(f"{self.findings.clock():7.2f} s  not settled")
            lasted_s = self.findings.clock() - began_s
            if self._programs is not None:
                self._programs.end()
            self._finish()
            if self._programs is not None:
                self._programs.finish(lasted_s)
        failures = self._programs.failures if self._programs is not None else {}
        return Result(self._config, self.findings, self.faults, self._counts(), failures)

    def _begin(self) -> None:
        """Everybody is there before anybody says anything."""
        for some in (self.members[at : at + 10] for at in range(0, len(self.members), 10)):
            gevent.joinall([gevent.spawn(member.connect) for member in some], raise_error=True)
        self.start(self._chance)
        self._wait_served(self.findings.clock(), "the begin")

    # Faults

    def _break(self) -> None:
        names = self._cluster.names_of("edge")
        for number in range(self._config.kills):
            self._kill(names[number % len(names)])
        for number in range(self._config.hangs):
            self._hang(names[number % len(names)])

    def _kill(self, name: str) -> None:
        away_s = self._chance.uniform(0.0, 2.0)
        fault = self._begins(f"kill -9 {name}, start it after {away_s:.1f} s", kill=True)
        self._cluster.kill(name)
        gevent.sleep(away_s)
        self._cluster.start_process(name)
        self._cluster.wait_known(name)
        self._ends(fault)

    def _hang(self, name: str) -> None:
        fault = self._begins(f"SIGSTOP {name} for {_HANG_S:g} s", kill=False)
        self._cluster.hang(name)
        gevent.sleep(_HANG_S)
        self._cluster.kill(name, signal.SIGCONT)
        self._cluster.wait_known(name)
        self._ends(fault)

    def _begins(self, text: str, kill: bool) -> Fault:
        fault = Fault(text, self.findings.clock(), kill)
        self.faults.append(fault)
        self._history.note(text)
        return fault

    def _ends(self, fault: Fault) -> None:
        fault.back_s = self.findings.clock()
        self._wait_served(fault.back_s, fault.text)
        # A fault touches what is asked until the edge is back, at least for a moment.
        until_s = max(fault.back_s, fault.begin_s + _WINDOW_S)
        fault.waits_s = self.timings.waits(fault.begin_s, until_s)
        fault.silence_s = max(
            (
                since + silence - max(since, fault.begin_s)
                for player in self.players
                if isinstance(player.media, TimedMedia)
                for since, silence in player.media.silences
                if since < until_s and since + silence > fault.begin_s
            ),
            default=0.0,
        )
        if self._programs is not None:
            fault.programs = self._programs.failed_since(fault.begin_s)
        self._say(
            f"{fault.begin_s:7.2f} s  {fault.text}: median {median(fault.waits_s or [0]):.3f} s, worst "
            f"{max(fault.waits_s, default=0):.2f} s, longest silence {fault.silence_s:.2f} s {' '.join(fault.programs)}"
        )
        gevent.sleep(self._chance.uniform(0.2, 1.5))

    # The end

    def _finish(self) -> None:
        for group in self.groups:
            group.finish(self._balancer.url("rtmpt", group.scope))
        self.end()
        self._balancer.stop()
        self.judge("script", self._cluster.stop(), self._cluster.trouble())

    def _counts(self) -> dict[str, int]:
        """How much was done."""
        return {
            "answers": self.timings.answers,
            "calls": sum(member.calls.answered for member in self.members),
            "words": sum(member.of_all for member in self.members),
            "frames": sum(player.media.received for player in self.players),
            "gaps": sum(player.media.gaps for player in self.players),
            "sessions taken over": sum(
                self._cluster.log(name).count("session taken over") for name in self._cluster.names_of("edge")
            ),
            "findings": len(self.findings),
        }


@click.command()
@click.option("--balancer", type=click.Choice(BALANCERS), default="nginx", show_default=True)
@click.option("--store", type=click.Choice(["sqlite", "redis"]), default="sqlite", show_default=True)
@click.option("--edges", type=click.IntRange(2), default=Config.edges, show_default=True)
@click.option("--origins", type=click.IntRange(1), default=Config.origins, show_default=True)
@click.option("--kills", type=click.IntRange(0), default=Config.kills, show_default=True)
@click.option("--hangs", type=click.IntRange(0), default=Config.hangs, show_default=True)
@click.option("--clients", type=click.IntRange(0), default=Config.clients, show_default=True)
@click.option("--groups", type=click.IntRange(0), default=Config.groups, show_default=True)
@click.option("--publishers", type=click.IntRange(0), default=Config.publishers, show_default=True)
@click.option("--players", type=click.IntRange(0), default=Config.players, show_default=True)
@click.option("--programs/--no-programs", default=True, help="Whether ffmpeg and rtmpdump take part.")
@click.option("--seed", type=int, default=None, help="Of the pauses [default: another one each time].")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="For logs and data [default: a new one]."
)
def main(seed: int | None, folder: Path | None, **settings: object) -> None:
    """Kill one edge after the other behind a balancer, and say whether a client has noticed (exit status 1), or has waited too
    long."""
    folder = folder or Path(tempfile.mkdtemp(prefix="headwater-edge-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    seed = seed if seed is not None else random.SystemRandom().randrange(10_000)
    config = Config(seed=seed, **settings)  # type: ignore[arg-type]  # The options are its fields.
    tools = {name: shutil.which(name) or "" for name in needed(config)}
    if missing := [name for name, path in tools.items() if not path]:
        raise click.ClickException(
            f"{', '.join(missing)}: not found; scripts/system-packages.sh installs what is missing"
        )
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(f"seed {seed}, logs in {folder}")
    with running(config, folder, tools) as (cluster, balancer):
        result = EdgeChaos(config, cluster, balancer, tools, say).run()
    console.print(table(result))
    say(", ".join(f"{number} {what}" for what, number in result.counts.items()))
    if result.waits_s:
        say(
            f"time until served again after a kill: median {median(result.waits_s):.3f} s, worst {max(result.waits_s):.2f} s"
        )
    if result.failures:
        tries = len(result.faults)
        say(
            "; ".join(
                f"{name} ended at {number} of {tries} faults" for name, number in result.failures.items()
            )
        )
    problems = [*result.late(), result.report()]
    for problem in filter(None, problems):
        say(problem)
    if any(problems):
        sys.exit(1)
    say("no client has noticed anything")


if __name__ == "__main__":
    main()
