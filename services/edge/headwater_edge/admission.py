"""How many connections there may be, in all and from one address."""

from headwater_edge.addresses import block_of, is_loopback


class Admission:
    """Counts the sockets of clients by block of addresses, those included that are being closed."""

    __slots__ = ("_max_connections", "_max_per_address", "count", "held")

    def __init__(self, max_connections: int, max_per_address: int) -> None:
        self._max_connections, self._max_per_address = max_connections, max_per_address
        self.count = 0
        self.held: dict[str, int] = {}
        """By `block_of` their address; blocks of none are not in it."""

    def admits(self, address: str, exempt: bool = False) -> bool:
        """Whether another connection from an address may be taken. Loopback has no limit of its own, nor has who is `exempt`."""
        if self.count >= self._max_connections:
            return False
        return exempt or is_loopback(address) or self.held.get(block_of(address), 0) < self._max_per_address

    def enter(self, address: str) -> None:
        """A connection was taken."""
        block = block_of(address)
        self.count += 1
        self.held[block] = self.held.get(block, 0) + 1

    def leave(self, address: str) -> None:
        """Its socket is closed."""
        block = block_of(address)
        self.count -= 1
        self.held[block] -= 1
        if not self.held[block]:
            del self.held[block]
