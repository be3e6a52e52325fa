"""The clients of the fail-over load: writers at a steady rate, and everyone notes when what came."""

from array import array
from dataclasses import dataclass, field
from typing import Any

from bench.client_process import serve
from bench.failover_gaps import Trace
from bench.object_clients import Begun, Client, ObjectClients
from bench.object_plan import ObjectPlan
from bench.object_wire import Member


@dataclass(frozen=True, slots=True)
class FailoverWindow:
    """What the clients saw of a window, and of 10 s more at most until everything had come. `traces` in the order of the plan's
    clients, times by this machine's monotonic clock. For the others see RequestWindow."""

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

    def _send(self, client: Client) -> None:
        self._sent_ns.setdefault(client.key, array("q")).append(self.now_ns())
        ObjectClients._send(self, client)

    def begin(self) -> Begun:
        """A window begins now."""
        for client in self._all:
            client.member.forget()
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
            traces=[self._trace(client.member) for client in self._all],
        )

    def _trace(self, member: Member) -> Trace:
        ((key, _),) = member.last.items()
        sent_ns, base_ns = self._sent_ns.get(key, array("q")), self.base_ns
        delays = (
            arrival_ns - sent_ns[number - 1]
            for arrival_ns, number in zip(member.arrivals_ns, member.numbers, strict=True)
        )
        return Trace(array("q", (base_ns + at_ns for at_ns in member.arrivals_ns)), array("q", delays))


def run(pipe: Any, plan: ObjectPlan) -> None:
    """Process, see `client_process.serve`; orders as `ObjectClients.order` has them, a window is a FailoverWindow."""
    serve(pipe, FailoverClients(plan))
