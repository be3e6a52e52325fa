"""An application whose state shows whether a call was carried out twice, not at all, or out of order."""

from headwater_origin import Application, CallError, Client, remote


class Tally(Application):
    """Clients connect with a name. Each counts for itself, from 1; the state knows how far each has come, the sum, and how
    often each has left. All but spectators, who say so when they connect, hear of each count."""

    allow_publish = True
    allow_shared_objects = True
    allow_persistent_objects = True

    def on_connect(self, client: Client, name: str, spectator: bool = False) -> None:
        client.attributes["name"] = name
        if not spectator:
            self.room("counting").join(client)

    def on_disconnect(self, client: Client) -> None:
        self._add(f"left {client.attributes['name']}")

    @remote
    def count(self, client: Client, number: int) -> int:
        """The client's next number; the sum of all counts is the result."""
        name = client.attributes["name"]
        before = self.state.get(name, 0)
        if number != before + 1:
            raise CallError("Tally.Order", f"{name} says {number:g} after {before:g}")
        self.state[name] = number
        self.room("counting").broadcast("counted", name, number)
        return self._add("sum")

    @remote
    def totals(self, client: Client) -> dict[str, int]:
        """All of the state."""
        return dict(self.state)

    def _add(self, key: str) -> int:
        self.state[key] = self.state.get(key, 0) + 1
        return int(self.state[key])
