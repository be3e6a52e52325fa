"""The fail-over load as its parent sees it."""

from bench import failover_clients
from bench.client_load import RatedLoad
from bench.failover_clients import FailoverWindow
from bench.object_plan import ObjectPlan


class FailoverLoad(RatedLoad[FailoverWindow]):
    """All clients, in one process."""

    def __init__(self, plan: ObjectPlan) -> None:
        super().__init__(failover_clients.run, plan)

    def send_each(self) -> None:
        """Every writer sends a change now, beside those that are due."""
        self._worker.tell("each")
