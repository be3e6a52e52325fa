"""The load of the object and call benchmarks, as its parent sees it: clients that ask, each message numbered and stamped, and
everyone checks what comes. `native/object_load.c` is the program."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from bench.errors import BenchError
from bench.native_build import build
from bench.native_load import Durations, NativeProgram
from bench.object_layout import ClientSpec
from bench.object_plan import ObjectPlan
from bench.opening import pass_time, wait_for
from bench.results import Spread
from bench.session import Target

_LOOK_S = 0.1
_OPEN_S = 120.0
_OPENING = 16
"""So many clients open at a time."""
_DRAIN_S = 10.0
"""So long clients wait for what is under way at the end of a window."""
_ANSWER_S = 60.0
Order = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RequestWindow:
    """One window. Of its time: `sent` and `answered` messages of those that ask, `messages` of SharedObjects to anybody,
    `deliveries`: the events in those, or results of calls; `latency` from a message's sending to another member's Change or
    its own result; `cpu_s` of the load; `lag_ms` by which a message left late at most. Up to 10 s later, when nobody sends any
    more: `unanswered` messages, and `behind`, how often a member's last value is not the last that was sent. The other faults
    are all since the window began: events that were `missing`, `disordered` (or doubled), `strange`, and `closed` clients."""

    wall_s: float
    cpu_s: float
    sent: int
    answered: int
    messages: int
    deliveries: int
    latency: Spread
    lag_ms: float
    missing: int
    disordered: int
    strange: int
    closed: int
    unanswered: int
    behind: int

    @classmethod
    def of(cls, said: dict[str, Any]) -> Self:
        """From what the program says."""
        return cls(**{**said, "latency": Spread.of(Durations.of(said["latency"]))})

    @property
    def faults(self) -> int:
        """Of every kind."""
        wrong = self.missing + self.disordered + self.strange
        return wrong + self.closed + self.unanswered + self.behind


class RequestLoad:
    """All clients, in one process on `core`. Use as a context manager: nothing of it is left afterwards."""

    def __init__(
        self, targets: Sequence[Target], clients: Iterable[Order], window: int, core: int | None
    ) -> None:
        """`targets`: where the first connect must be accepted; `clients`: orders that make them; `window`: messages that each has
        unanswered where it sends as fast as it is answered."""
        self._targets, self._clients, self._window = targets, list(clients), window
        self._program = NativeProgram(build("object_load"), core)
        if core is not None:
            # It shares that one with servers, which a client on another machine does not stop for every answer either.
            self._program.give_way()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    def open(self, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Returns when every client is ready. `check` raises when the server died. Raises BenchError."""
        for target in self._targets:
            wait_for(target, check)
        self.tell_clients()
        deadline = time.monotonic() + _OPEN_S
        while True:
            check()
            said = self._program.hear(_LOOK_S)
            if said is not None and "wall_s" in said:
                return
            if said is not None:
                progress(said["count"])
            elif time.monotonic() > deadline:
                raise BenchError(f"not all clients are open after {_OPEN_S:.0f} s", failed=True)

    def tell_clients(self) -> None:
        """Let them open; more than once is as once."""
        for order in self._clients:
            self._program.tell(*order)
        if self._clients:
            self._program.tell("open", _OPENING)
        self._clients = []

    def start(self, rate: float | None) -> None:
        """From now on messages are sent as fast as they are answered, or so many a second."""
        self._program.tell(*(("run", self._window) if rate is None else ("pace", rate)))

    def watch(self, seconds: float, progress: Callable[[float], None], check: Callable[[], None]) -> None:
        """Let time pass; raises BenchError as soon as the load or the server fails."""
        pass_time(seconds, progress, check, lambda: self._program.hear(0))

    def begin(self) -> None:
        """A window begins."""
        self._program.tell("begin")

    def end(self) -> None:
        """The window ends, and all sending."""
        self._program.tell("end", _DRAIN_S)

    def window(self) -> RequestWindow:
        """What was seen in it, once all has come. Raises BenchError."""
        said = self._program.hear(_ANSWER_S)
        if said is None:
            raise BenchError(f"the load did not report within {_ANSWER_S:.0f} s", failed=True)
        return RequestWindow.of(said)


def object_load(plan: ObjectPlan, batch: int = 1) -> RequestLoad:
    """Members of SharedObjects, some of which change them: `batch` changes in a message."""

    def member(client: ClientSpec) -> Order:
        requester = "-" if client.requester is None else client.requester
        where = (plan.host, plan.ports[client.edge], f"{plan.app}/{client.scope}")
        return ("member", *where, requester, *client.objects)

    kind: Order = ("batch", batch, int(plan.persistent))
    targets = [Target(plan.host, port, plan.app) for port in plan.ports]
    return RequestLoad(targets, [kind, *map(member, plan.clients)], plan.window, plan.core)


def call_load(
    target: Target,
    ports: Sequence[int],
    app: str,
    method: str,
    clients: int,
    scopes: int,
    window: int,
    core: int | None,
) -> RequestLoad:
    """Callers of a method that answers its argument, spread over edges (RTMP `ports`) and scopes of the application."""

    def caller(number: int) -> Order:
        scope = f"{app}/scope{number // len(ports) % scopes}"
        return ("caller", target.host, ports[number % len(ports)], scope, method)

    targets = [Target(target.host, port, app) for port in ports]
    return RequestLoad(targets, map(caller, range(clients)), window, core)


def ping_load(target: Target, app: str, clients: int, core: int | None) -> RequestLoad:
    """Clients whose pings the edge itself answers."""
    pingers: list[Order] = [("pinger", target.host, target.port, f"{app}/scope0")] * clients
    return RequestLoad([Target(target.host, target.port, app)], pingers, 1, core)
