"""Who is where in a load for fail-over: groups of a few members on every edge, one of whom writes."""

from bench.object_layout import ClientSpec

MEMBERS = 4
"""Of each group."""
BUSY = 0
"""The number of the group whose writer may be busier than the others."""


def group_name(number: int) -> str:
    """The instance of the application; its scope is a group."""
    return f"f{number:04d}"


def failover_clients(groups: int, edges: int, busy: int = 1) -> list[ClientSpec]:
    """Members of each group spread over the edges; the first writes its object, `busy` times as often in the group BUSY. Half of
    the writers are on either edge."""
    return [
        ClientSpec(
            (group + member) % edges,
            group_name(group),
            (group,),
            0 if member == 0 else None,
            busy if group == BUSY else 1,
        )
        for group in range(groups)
        for member in range(MEMBERS)
    ]
