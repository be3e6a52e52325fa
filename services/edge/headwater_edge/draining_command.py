"""`headwater-edge drain`: asks an edge to let go of its clients, and shows how far it is."""

import json
import time
from typing import Any

import click
from headwater_bus.control import DrainEdge, EdgeDrain, Snapshot, Subscribe
from headwater_bus.options import ClusterClient, OperatorError
from headwater_bus.progress import interrupt_here, progress_bar

_LOOK_S = 0.3


def drain_edge(options: dict[str, Any], node: str, deadline_s: float, *, wait: bool, stop: bool) -> None:
    """Raises OperatorError."""
    interrupt_here()
    client = ClusterClient(options)
    endpoint = _control_endpoint(client, node)
    state = _ask(client, node, endpoint, DrainEdge(deadline_s, stop))
    if wait and state.clients:
        state = _follow(client, node, endpoint, state, stop)
    left = f"{state.clients} of {state.total} clients are left"
    if client.as_json:
        click.echo(json.dumps({"edge": node, "clients": state.clients, "total": state.total}))
    elif state.clients:
        click.echo(f"{node} is being drained: {left}, for {state.seconds:.0f} s at most")
    elif stop:
        click.echo(f"{node} has no client any more, and ends")
    else:
        click.echo(f"{node} has no client any more, and takes none until it is started again")


def _control_endpoint(client: ClusterClient, node: str) -> str:
    snapshot = client.ask(Subscribe("operator"))
    assert isinstance(snapshot, Snapshot)
    edges = {row[0]: row[5].get("control", "") for row in snapshot.nodes if row[1] == "edge"}
    if not edges.get(node):
        there = ", ".join(sorted(edges)) or "none"
        raise OperatorError(f"{node}: no edge of this name is registered, expected one of: {there}")
    return str(edges[node])


def _ask(client: ClusterClient, node: str, endpoint: str, request: DrainEdge) -> EdgeDrain:
    answer = client.ask(request, endpoint, node)
    assert isinstance(answer, EdgeDrain)
    return answer


def _follow(client: ClusterClient, node: str, endpoint: str, state: EdgeDrain, stop: bool) -> EdgeDrain:
    """Until nobody is left."""
    interrupted = f"{node} is being drained, and goes on by itself; headwater-edge drain {node} follows it"
    with progress_bar(f"draining {node}", state.total, interrupted, wanted=not client.as_json) as show:
        while state.clients:
            time.sleep(_LOOK_S)
            try:
                state = _ask(client, node, endpoint, DrainEdge(-1.0))
            except OperatorError:
                if not stop:
                    raise
                state = EdgeDrain(0, state.total, 0.0)  # It has ended.
            show(state.total - state.clients)
    return state
