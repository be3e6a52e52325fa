"""The clients of the fail-over load: writers at a steady rate, and everyone notes when what came."""

from array import array
from dataclasses import dataclass, field
from typing import Any

from bench.client_process import serve
from bench.failover_gaps import Trace
from bench.failover_wire import Watcher
from bench.object_clients import Begun, Client, ObjectClients, obey
from bench.object_layout import ClientSpec
from bench.object_plan import ObjectPlan
from bench.object_wire import Expected, Member


@dataclass(frozen=True, slots=True)
class FailoverWindow:
    """What the clients saw of a window, and of 10 s more at most until everything had come. `traces` in the order of the plan's
    clients, times by this machine's monotonic clock. For the others see ObjectWindow."""

    wall_s: float
    cpu_s: float
    sent: int
    answered: int
    delivered: int
    lag_ms: float
    missing: int
    disordered: int
    strange: int
    closed: int
    unanswered: int
    behind: int
    traces: list[Trace]

    @property
    def faults(self) -> int:
        """Of every kind."""
        wrong = self.missing + self.disordered + self.strange
        return wrong + self.closed + self.unanswered + self.behind


@dataclass(slots=True)
class FailoverClients(ObjectClients):
    """All clients of this process. Each object has one writer, or none."""

    _sent_ns: "dict[bytes, array[int]]" = field(default_factory=dict)
    _watchers: list[Watcher] = field(default_factory=list)

    def _member(self, spec: ClientSpec, expected: Expected, sampled: bool) -> Member:
        watcher = Watcher(spec, expected, self.tally)
        self._watchers.append(watcher)
        return watcher

    def _send(self, client: Client) -> None:
        self._sent_ns.setdefault(client.key, array("q")).append(self.now_ns())
        ObjectClients._send(self, client)

    def begin(self) -> Begun:
        """A window begins now."""
        for watcher in self._watchers:
            watcher.forget()
        return ObjectClients.begin(self)

    def end(self, begun: Begun) -> Any:
        """The window ends now, and so does sending."""
        wall_s, cpu_s, lag_s = *self.used(begun), self.lag_s
        sent, answered, delivered = self.counted(begun)
        self.stop()
        unanswered, behind = self.drain()
        missing, disordered, strange, closed = self.new_faults()
        return FailoverWindow(
            wall_s=wall_s,
            cpu_s=cpu_s,
            sent=sent,
            answered=answered,
            delivered=delivered,
            lag_ms=lag_s * 1000,
            missing=missing,
            disordered=disordered,
            strange=strange,
            closed=closed,
            unanswered=unanswered,
            behind=behind,
            traces=[self._trace(watcher) for watcher in self._watchers],
        )

    def _trace(self, watcher: Watcher) -> Trace:
        ((key, _),) = watcher.last.items()
        sent_ns, base_ns = self._sent_ns.get(key, array("q")), self.base_ns
        delays = (
            arrival_ns - sent_ns[number - 1]
            for arrival_ns, number in zip(watcher.arrivals_ns, watcher.numbers, strict=True)
        )
        return Trace(array("q", (base_ns + at_ns for at_ns in watcher.arrivals_ns)), array("q", delays))


def run(pipe: Any, plan: ObjectPlan) -> None:
    """Process: see `object_clients.run`; a window is a FailoverWindow."""
    serve(pipe, FailoverClients(plan), obey)
