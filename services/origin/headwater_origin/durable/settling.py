"""What edges and absent sessions need no more of what a group has said. It is kept no longer, and not without a bound."""

from typing import TYPE_CHECKING

from headwater_bus.logs import get_log

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

_log = get_log("origin")


def settle(group: "Group") -> "list[Session]":
    """Look what nobody needs any more of what was said. Where too much is kept, those for whom it is kept do without; returns
    absent members that have left so."""
    outputs, limit = group.outputs, group.config.said_bytes
    group.roaming.look(outputs.reached)
    outputs.settle()
    if outputs.said.size_bytes > limit and group.roaming.give_up(outputs.settled):
        _log.error(
            "more is kept for RTMPT clients than said_bytes: what their edges have not stored is dropped, and lost if an "
            "edge dies now",
            group=group.name,
            bytes=outputs.said.size_bytes,
            limit=limit,
        )
        group.roaming.look(outputs.reached)
        outputs.settle()
    # Where it is but for a slow link, or for those that have just been given up, nobody need go.
    if outputs.said.size_bytes <= limit or group.absent.needed > outputs.settled:
        return []
    gone = [session for session in group.absent.values() if session.successor is None]
    if gone:
        _log.error(
            "more is kept for absent clients than said_bytes: they are taken for gone",
            group=group.name,
            bytes=outputs.said.size_bytes,
            limit=limit,
        )
    return gone
