"""An application whose state shows how often each call was carried out, and who has left."""

from typing import Any

from headwater_origin import Application, CallError, Client, remote

MESSAGE_NAME = "said"
"""What a broadcast calls at every member."""


class Chaos(Application):
    """Clients connect with a name. Each numbers its calls and what it says from 1."""

    allow_publish = True
    allow_shared_objects = True
    allow_persistent_objects = True

    def on_connect(self, client: Client, name: str = "a program") -> None:
        client.attributes["name"] = name
        self._add(f"connected {name}")

    def on_disconnect(self, client: Client) -> None:
        self._add(f"left {client.attributes['name']}")

    @remote
    def count(self, client: Client, number: float) -> dict[str, Any]:
        """The client's call of that number: how often it has run, how many of the client's calls have, and of all clients'."""
        name = client.attributes["name"]
        runs = self._add(f"ran {name} {number:g}")
        return {
            "name": name,
            "number": number,
            "runs": runs,
            "mine": self._add(f"calls {name}"),
            "sum": self._add("sum"),
        }

    @remote
    def say(self, client: Client, number: float, of_all: float) -> None:
        """Tell everybody. `of_all`: its number among all that the client says, this way or another."""
        self.broadcast(MESSAGE_NAME, client.attributes["name"], number, of_all)

    @remote
    def journal(self, client: Client, name: str) -> dict[str, float]:
        """How often each call of a client has run, by its number."""
        if not isinstance(name, str):
            raise CallError("Chaos.BadName", "journal takes a client's name")
        prefix = f"ran {name} "
        return {key.removeprefix(prefix): runs for key, runs in self.state.items() if key.startswith(prefix)}

    @remote
    def totals(self, client: Client) -> dict[str, float]:
        """All of the state but the single calls."""
        return {key: value for key, value in self.state.items() if not key.startswith("ran ")}

    def _add(self, key: str) -> int:
        self.state[key] = self.state.get(key, 0) + 1
        return int(self.state[key])


class SpreadChaos(Chaos):
    """The same with each object and each stream a group of its own."""

    shared_objects = "spread"
    streams = "spread"
