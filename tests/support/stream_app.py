"""One application, served with its streams together in its scope's group and with each a group of its own."""

from typing import Any

from headwater_origin import Application, Client, Reject, remote


class Stage(Application):
    """Streams named `secret...` are nobody's. It tells what its hooks were asked and told."""

    def on_start(self) -> None:
        self.log: list[list[Any]] = []

    def on_publish(self, client: Client, name: str, query: str) -> Reject | None:
        self.log.append(["publish", name, query])
        return Reject("not yours") if name.startswith("secret") else None

    def on_unpublish(self, client: Client, name: str) -> None:
        self.log.append(["unpublish", name])

    def on_play(self, client: Client, name: str, query: str) -> Reject | None:
        self.log.append(["play", name, query])
        return Reject("not yours") if name.startswith("secret") else None

    def on_stop_play(self, client: Client, name: str) -> None:
        self.log.append(["stop_play", name])

    @remote
    def what_happened(self, client: Client) -> list[list[Any]]:
        """What the hooks were asked and told since the scope began."""
        return self.log


class SpreadStage(Stage):
    """The same, each stream at an origin of its own."""

    streams = "spread"
