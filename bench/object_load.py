"""The object load as its parent sees it."""

from bench import object_clients
from bench.client_load import RatedLoad
from bench.object_plan import ObjectPlan, ObjectWindow


class ObjectLoad(RatedLoad[ObjectWindow]):
    """All clients, in one process."""

    def __init__(self, plan: ObjectPlan) -> None:
        super().__init__(object_clients.run, plan)
