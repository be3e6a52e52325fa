"""What the way from edge to origin and back costs: of a stream, of calls, of changes; beside what the edge answers itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from bench.calls import APP, CallCluster, made_load
from bench.media import Case as MediaCase
from bench.media import MediaBench, Timing
from bench.native_build import build
from bench.object_layout import own_objects
from bench.object_plan import ObjectPlan
from bench.processes import Cores
from bench.request_bench import Experiment, Found, RequestBench
from bench.request_load import RequestLoad, object_load, ping_load
from bench.request_results import RequestMeasurement
from bench.results import Measurement
from bench.screen import Screen
from bench.store_cluster import StoreCluster
from bench.stream import StreamShape
from bench.tables import Case, Column

_STREAMS = 20
_CALLERS = 100
_RATES = (500.0, 5000.0)


@dataclass(frozen=True, slots=True)
class HopMeasurement:
    """One kind of messages in one run: how many came in, with how many Mbit where that is of interest, and what each cost."""

    case: Case
    run: int
    messages_s: float
    mbit_s: float | None
    edge_percent: float
    origin_percent: float
    p50_ms: float
    p99_ms: float
    doubted: tuple[str, ...]

    def doubts(self) -> list[str]:
        """Of what it was made of."""
        return list(self.doubted)

    @classmethod
    def of_stream(cls, case: Case, m: Measurement, shape: StreamShape) -> "HopMeasurement":
        """Published streams, each with a player."""
        messages_s, mbit_s = m.streams * shape.messages_s, m.streams * shape.bit_s / 1e6
        percents = m.cpu_percent("edge"), m.cpu_percent("origin")
        return cls(
            case, m.run, messages_s, mbit_s, *percents, m.latency.p50_ms, m.latency.p99_ms, tuple(m.doubts())
        )

    @classmethod
    def of_requests(cls, m: RequestMeasurement) -> "HopMeasurement":
        """Calls or changes at a rate."""
        seen, percents = m.phase.seen, (m.phase.cpu_percent("edge"), m.phase.cpu_percent("origin"))
        latency = seen.latency
        return cls(
            m.case, m.run, seen.answered / seen.wall_s, None, *percents, latency.p50_ms, latency.p99_ms, tuple(m.doubts())
        )  # fmt: skip


def _a_message(percent: float, m: HopMeasurement) -> float:
    return percent * 1e4 / m.messages_s


def _a_mbit(percent: float, m: HopMeasurement) -> float | None:
    return None if m.mbit_s is None else percent * 10 / m.mbit_s


COLUMNS: tuple[Column[HopMeasurement], ...] = (
    Column("messages/s", lambda m: m.messages_s),
    Column("edge CPU µs a message", lambda m: _a_message(m.edge_percent, m), 1),
    Column("origin CPU µs a message", lambda m: _a_message(m.origin_percent, m), 1),
    Column("edge CPU ms a Mbit", lambda m: _a_mbit(m.edge_percent, m), 2),
    Column("origin CPU ms a Mbit", lambda m: _a_mbit(m.origin_percent, m), 2),
    Column(
        "origin's part %", lambda m: 100 * m.origin_percent / max(0.01, m.origin_percent + m.edge_percent)
    ),
    Column("p50 ms", lambda m: m.p50_ms, 1),
    Column("p99 ms", lambda m: m.p99_ms, 1),
)
PANELS = ("edge CPU µs a message", "origin CPU µs a message", "p50 ms", "p99 ms")
REMARKS = (
    f"stream: {_STREAMS} publishers of 1 Mbit/s, a player each; messages are those published, each comes back to the edge once",
    f"call: {_CALLERS} clients, latency from the call to its result; change: 200 objects of 2 members, to the other member",
    "all servers share one core, one edge, one origin, the journal off; the edge's CPU holds its clients and its part of the bus",
    "ping: RTMP's own, which the edge answers itself; what a call at the same rate costs more is the hop: the bus on both sides, "
    "the origin",
)


def _object_load(server: StoreCluster, core: int) -> RequestLoad:
    target = server.target
    return object_load(ObjectPlan(target.host, server.edge_ports, target.app, own_objects(), 1, True, core))


def _ping_load(server: StoreCluster, core: int) -> RequestLoad:
    return ping_load(server.target, APP, _CALLERS, core)


def _request_experiments() -> list[Experiment]:
    cluster = partial(CallCluster, journal="none", edges=1)
    calls = [
        Experiment(
            ("call", f"{rate:.0f}/s"), cluster, partial(made_load, _CALLERS, 1), _CALLERS, rate=rate, halved=False
        )
        for rate in _RATES
    ]  # fmt: skip
    changes = [
        Experiment(
            ("change", f"{rate:.0f}/s"), cluster, _object_load, len(own_objects()), rate=rate, halved=False
        )
        for rate in _RATES
    ]
    pings = [
        Experiment(("ping", f"{rate:.0f}/s"), cluster, _ping_load, _CALLERS, rate=rate, halved=False) for rate in _RATES
    ]  # fmt: skip
    return pings + calls + changes


def measure_hop(
    flush_ms: Sequence[int], cores: Cores, timing: Timing, console: Console
) -> Found[HopMeasurement]:
    """Every kind, run after run, each on a cluster of its own."""
    os.sched_setaffinity(0, cores.load)
    shape, program = StreamShape(), build("rtmp_load")
    streams = MediaCase(f"{_STREAMS} streams", shape, _STREAMS, _STREAMS)
    experiments = _request_experiments()
    found: Found[HopMeasurement] = Found()
    with Screen(console, timing.runs * (len(flush_ms) + len(experiments))) as screen:
        media, requests = MediaBench(program, cores, timing, screen), RequestBench(cores, timing, screen)
        for run in range(1, timing.runs + 1):
            for each_ms in flush_ms:
                case = ("stream", f"--flush-ms {each_ms}")
                with (
                    found.noting(case, run),
                    StoreCluster(cores.server, "none", 1, flush_ms=each_ms) as server,
                ):
                    found.version(server)
                    seen = media.measure(server, streams, run)
                    found.measurements.append(HopMeasurement.of_stream(case, seen, shape))
                screen.next()
            for experiment in experiments:
                with found.noting(experiment.case, run), experiment.cluster(cores.server) as server:
                    asked = requests.measure(server, experiment, run)
                    found.measurements.append(HopMeasurement.of_requests(asked))
                screen.next()
    return found
