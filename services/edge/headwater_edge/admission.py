"""How many connections there may be, in all and from one address."""

from headwater_edge.listener import is_loopback, owner_of


class Admission:
    """Counts the sockets of clients by who owns their address, those included that are being closed."""

    __slots__ = ("_max_connections", "_max_per_address", "count", "held")

    def __init__(self, max_connections: int, max_per_address: int) -> None:
        self._max_connections, self._max_per_address = max_connections, max_per_address
        self.count = 0
        self.held: dict[str, int] = {}
        """By `owner_of` their address; owners of none are not in it."""

    def admits(self, address: str) -> bool:
        """Whether another connection from an address may be taken. Loopback has no limit of its own."""
        if self.count >= self._max_connections:
            return False
        return is_loopback(address) or self.held.get(owner_of(address), 0) < self._max_per_address

    def enter(self, address: str) -> None:
        """A connection was taken."""
        owner = owner_of(address)
        self.count += 1
        self.held[owner] = self.held.get(owner, 0) + 1

    def leave(self, address: str) -> None:
        """Its socket is closed."""
        owner = owner_of(address)
        self.count -= 1
        self.held[owner] -= 1
        if not self.held[owner]:
            del self.held[owner]
