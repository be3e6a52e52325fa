"""The chaos suite: a cluster with clients that check everything they see, while a script kills, stops and cuts its processes and
moves its groups.

    python -m support.chaos --seconds 600 --seed 7 --store redis
"""

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import gevent
from rich.console import Console
from rich.table import Table

from support.chaos_checks import Findings
from support.chaos_clients import Group, Member, Pauses, Player, Publisher
from support.chaos_cluster import ChaosCluster
from support.chaos_crowd import Crowd
from support.chaos_faults import KINDS, Fault, Script
from support.chaos_ffmpeg import NAME as FFMPEG
from support.chaos_ffmpeg import Recording
from support.redis import RedisServer
from support.waiting import eventually

_TELL_EVERY_S = 10.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Config:
    """What is run. `kinds`: of faults. Of `groups`, the last `spread` have objects that are groups of their own."""

    seconds: float = 30.0
    seed: int = 1
    kinds: tuple[str, ...] = KINDS
    store: str = ""
    clients: int = 60
    groups: int = 12
    spread: int = 2
    publishers: int = 4
    players: int = 8
    ffmpeg: str = ""


@dataclass(slots=True)
class Result:
    """What came of it."""

    config: Config
    findings: Findings
    pauses: Pauses
    faults: list[Fault]
    counts: dict[str, int] = field(default_factory=dict)

    def report(self) -> str:
        """For whoever has to find the reason of a failure; empty where there was none."""
        found = self.findings.report()
        if not found:
            return ""
        script = [
            f"{fault.begin_s:8.2f} - {fault.end_s:8.2f} s  {fault.text}  {fault.outcome}"
            for fault in self.faults
        ]
        return "\n".join([f"seed {self.config.seed}", *script, found])


class Chaos(Crowd):
    """One run."""

    def __init__(self, config: Config, cluster: ChaosCluster, say: Say) -> None:
        self._config, self._cluster, self._say = config, cluster, say
        began = time.monotonic()
        super().__init__(Findings(lambda: time.monotonic() - began))
        self.pauses = Pauses(self.findings)
        self._chance = random.Random(config.seed)
        spread_from = config.groups - config.spread
        self.groups = [
            Group(
                f"{'spreadchaos' if at >= spread_from else 'chaos'}/g{at + 1:02}",
                self.findings,
                self.pauses,
                at >= spread_from,
            )
            for at in range(config.groups)
        ]
        for number in range(config.clients):
            group = self.groups[number % config.groups]
            place = len(group.members)
            url = cluster.rtmp_url(1 + place % 2, group.scope)
            group.members.append(Member(url, f"{group.scope[-3:]}-{place + 1}", place % 3 == 0, group))
        for number in range(config.publishers):
            scope = self.groups[number * config.groups // max(1, config.publishers)].scope
            publisher = Publisher(
                cluster.rtmp_url(1 + number % 2, scope), f"cam{number + 1}", number % 2 == 1, self.findings
            )
            self.publishers.append(publisher)
            for player in range(number, config.players, config.publishers):
                url = cluster.rtmp_url(1 + player // config.publishers % 2, scope)
                self.players.append(Player(url, publisher, player + 1, player % 3 == 0, self.findings))
        self.script = Script(cluster, config.seed, config.kinds, self.unserved, self.findings, say)

    def run(self) -> Result:
        """All of it; what is wrong is in the result. Raises what keeps it from beginning."""
        with ExitStack() as ending:
            recording = self._recording(ending)
            self._begin()
            began_s = self.findings.clock()
            self._say(
                f"{began_s:7.2f} s  {len(self.members)} members, {len(self.players)} players are served"
            )
            teller = gevent.spawn(self._tell)
            ending.callback(teller.kill)
            self.script.run(self._config.seconds)
            self._say(f"{self.findings.clock():7.2f} s  all faults are over")
            settled = "settled" if self.settle() else "not settled"
            self._say(f"{self.findings.clock():7.2f} s  {settled}")
            if recording is not None:
                recording.end()
            lasted_s = self.findings.clock() - began_s
            self._finish()
            if recording is not None:
                recording.finish(lasted_s)
        return Result(self._config, self.findings, self.pauses, self.script.faults, self.counts())

    def _recording(self, ending: ExitStack) -> Recording | None:
        if not self._config.ffmpeg:
            return None
        scope = self.groups[-1].scope
        urls = (
            self._cluster.rtmp_url(1, f"{scope}/{FFMPEG}"),
            self._cluster.rtmp_url(2, f"{scope}/{FFMPEG}"),
        )
        recording = Recording(self._config.ffmpeg, urls, self._cluster.folder, self.findings)
        ending.callback(recording.kill)
        recording.start()
        return recording

    def _begin(self) -> None:
        """Everybody is there before anybody says anything."""
        for member in self.members:
            member.connect()
        self.start(self._chance)
        now_s = self.findings.clock()
        eventually(lambda: not self.unserved(now_s), within_s=30, what="every client is served")

    def _finish(self) -> None:
        for at, group in enumerate(self.groups):
            group.finish(self._cluster.rtmp_url(1 + at % 2, group.scope))
        self.end()
        self.judge("cluster", self._cluster.close(), self._cluster.trouble())

    # What is told

    def counts(self) -> dict[str, int]:
        """How much was done."""
        return {
            "answers": self.pauses.answers,
            "calls": sum(member.calls.answered for member in self.members),
            "words": sum(member.of_all for member in self.members),
            "frames": sum(player.media.received for player in self.players),
            "gaps after a long outage": sum(player.media.gaps for player in self.players),
            "headers": sum(player.headers for player in self.players),
            "faults": len(self.script.faults),
            "findings": len(self.findings),
        }

    def _tell(self) -> None:
        while True:
            gevent.sleep(_TELL_EVERY_S)
            told = ", ".join(f"{number} {what}" for what, number in self.counts().items())
            self._say(f"{self.findings.clock():7.2f} s  {told}")


def table(result: Result) -> Table:
    """The faults, and what they cost."""
    shown = Table(
        title=f"chaos: seed {result.config.seed}, {result.config.seconds:g} s, {result.config.store or 'sqlite'}"
    )
    for column, justify in (
        ("at s", "right"),
        ("fault", "left"),
        ("for s", "right"),
        ("worst answer s", "right"),
        ("all served after s", "right"),
    ):
        shown.add_column(column, justify=justify)  # type: ignore[arg-type]  # Literals, all of them.
    for fault in result.faults:
        worst_s = result.pauses.worst_between(fault.begin_s, fault.end_s)
        shown.add_row(
            f"{fault.begin_s:.1f}",
            f"{fault.text}{': ' + fault.outcome if fault.outcome not in ('', 'done') else ''}",
            f"{fault.end_s - fault.begin_s:.1f}",
            f"{worst_s:.2f}" if worst_s else "< 0.3",
            f"{fault.served_s:.1f}" if fault.served_s is not None else "",
        )
    return shown


@contextmanager
def cluster_for(folder: Path, store: str, controls: int) -> Iterator[ChaosCluster]:
    """A cluster on `sqlite`, or on `redis` with a server of its own; stopped at the end, where it runs still."""
    with ExitStack() as ending:
        url = ""
        if store == "redis":
            program = shutil.which("redis-server")
            assert program is not None, "redis-server is missing: scripts/system-packages.sh installs it"
            server = RedisServer(program, folder / "redis")
            ending.callback(server.stop)
            url = server.url
        cluster = ChaosCluster(folder, url, controls)
        ending.callback(cluster.close)
        cluster.start()
        yield cluster


def _kinds(text: str) -> tuple[str, ...]:
    if text in ("all", "none"):
        return KINDS if text == "all" else ()
    kinds = tuple(text.split(","))
    if unknown := set(kinds) - set(KINDS):
        raise click.UsageError(
            f"--faults {text}: {', '.join(sorted(unknown))}: expected all, none or some of {', '.join(KINDS)}"
        )
    return kinds


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=600,
    show_default=True,
    help="For so long there are faults.",
)
@click.option("--seed", type=int, default=None, help="Which faults [default: another one each time].")
@click.option("--store", type=click.Choice(["sqlite", "redis"]), default="sqlite", show_default=True)
@click.option("--faults", default="all", show_default=True, help=f"all, none, or some of {','.join(KINDS)}.")
@click.option("--clients", type=click.IntRange(1), default=Config.clients, show_default=True)
@click.option("--groups", type=click.IntRange(1), default=Config.groups, show_default=True)
@click.option(
    "--spread", type=click.IntRange(0), default=Config.spread, show_default=True, help="Of the groups."
)
@click.option("--publishers", type=click.IntRange(0), default=Config.publishers, show_default=True)
@click.option("--players", type=click.IntRange(0), default=Config.players, show_default=True)
@click.option(
    "--ffmpeg/--no-ffmpeg", default=True, help="Whether an ffmpeg publishes and another one records."
)
@click.option(
    "--controls",
    type=click.IntRange(1),
    default=None,
    help="So many registries and balancers [default: 1; with Redis 2].",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="For logs and data [default: a new one]."
)
def main(
    seconds: float,
    seed: int | None,
    store: str,
    faults: str,
    folder: Path | None,
    ffmpeg: bool,
    controls: int | None,
    **counts: int,
) -> None:
    """Break a cluster for a while, and say whether a client has noticed. Exit status 1 if one has."""
    folder = folder or Path(tempfile.mkdtemp(prefix="headwater-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(
        seconds=seconds,
        seed=seed if seed is not None else random.SystemRandom().randrange(10_000),
        kinds=_kinds(faults),
        store=store,
        ffmpeg=(shutil.which("ffmpeg") or "") if ffmpeg else "",
        **counts,
    )
    console = Console()
    console.print(f"seed {config.seed}, logs in {folder}", highlight=False)
    controls = controls or (2 if store == "redis" else 1)
    with cluster_for(folder, store, controls) as cluster:
        result = Chaos(
            config, cluster, lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)
        ).run()
    console.print(table(result))
    console.print(", ".join(f"{number} {what}" for what, number in result.counts.items()), highlight=False)
    report = result.report()
    if report:
        print(report)
        sys.exit(1)
    console.print("no client has noticed anything")


if __name__ == "__main__":
    main()
