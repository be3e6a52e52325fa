"""What all groups of one origin process share."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwater_origin.config import OriginConfig
from headwater_origin.counters import Counters
from headwater_origin.durable.commits import Committer

if TYPE_CHECKING:
    from headwater_bus.node import Node

    from headwater_origin.elsewhere.peers import Peers
    from headwater_origin.group import Group


@dataclass(slots=True)
class Host:
    """See the module. `clock` gives monotonic seconds. `peers`: the links to other origins, for what applications do with
    objects of other groups."""

    node: "Node"
    config: OriginConfig
    counters: Counters
    committer: Committer
    peers: "Peers | None" = None
    clock: Callable[[], float] = time.monotonic
    on_fenced: "Callable[[Group, int], None]" = lambda group, epoch: None
    """Told of a group that another origin has, and at which epoch."""

    def lives(self, boot: str) -> bool:
        """Whether a node is registered still, as the process that it was."""
        return any(node.boot == boot for node in self.node.view.nodes.values())
