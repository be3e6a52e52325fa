"""The fail-over load as its parent sees it."""

from bench import failover_clients
from bench.failover_clients import FailoverWindow
from bench.object_load import ObjectLoad
from bench.object_plan import ObjectPlan
from bench.worker import Worker


class FailoverLoad(ObjectLoad):
    """All clients, in one process."""

    def __init__(self, plan: ObjectPlan) -> None:
        self._worker = Worker("clients", failover_clients.run, plan)

    def send_each(self) -> None:
        """Every writer sends a change now, beside those that are due."""
        self._worker.tell("each")

    def seen(self) -> FailoverWindow:
        """Of the window that has just ended, once all has come."""
        window: FailoverWindow = self._worker.window(60.0)
        return window
