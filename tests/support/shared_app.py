"""One application, served with its objects together in its scope's group and with each a group of its own."""

from typing import Any

from headwater_origin import Access, Application, Client, Reject, remote


class Together(Application):
    """Objects named `secret...` are closed to clients, `shown...` only readable; code of the application changes any."""

    allow_shared_objects = True
    allow_persistent_objects = True

    def on_start(self) -> None:
        self.heard: list[list[Any]] = []
        self.watched = self.shared_object("watched")
        self.watched.on_change(lambda changes: self.heard.append(["change", changes]))
        self.watched.on_message("wave", lambda *args: self.heard.append(["wave", *args]))

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        if name.startswith("secret"):
            raise Reject("not yours")
        return Access.READ if name.startswith("shown") else Access.ALL

    @remote
    def put(self, client: Client, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Set slots of an object as one commit; its contents then."""
        board = self.shared_object(name)
        board.change(values)
        return dict(board)

    @remote
    def put_two(self, client: Client, one: str, other: str, value: Any) -> None:
        """One value into two objects, and out of both again when it is negative."""
        self.shared_object(one)["value"] = value
        self.shared_object(other)["value"] = value
        if value < 0:
            raise Reject("negative")

    @remote
    def say(self, client: Client, name: str, text: str) -> None:
        """A message to all users of an object."""
        self.shared_object(name).send("said", text)

    @remote
    def contents(self, client: Client, name: str) -> dict[str, Any]:
        """What the application sees in an object."""
        return dict(self.shared_object(name))

    @remote
    def what_was_heard(self, client: Client) -> list[list[Any]]:
        """What the handlers of `watched` were told."""
        return self.heard

    @remote
    def count(self, client: Client, name: str) -> float:
        """Add one to a slot while clients' changes wait."""
        board = self.shared_object(name)
        with board.locked():
            board["count"] = board.get("count", 0.0) + 1
            return float(board["count"])


class Spread(Together):
    """The same, each object at an origin of its own."""

    shared_objects = "spread"


class Checked(Together):
    """Every change is looked at: numbers must not be negative, `fixed` stays, nobody may shout."""

    def shared_object_write(
        self, client: Client, name: str, persistent: bool, key: str, value: Any
    ) -> Reject | None:
        return Reject("negative") if isinstance(value, float) and value < 0 else None

    def shared_object_delete(self, client: Client, name: str, persistent: bool, key: str) -> bool:
        return key != "fixed"

    def shared_object_send(
        self, client: Client, name: str, persistent: bool, handler: str, *args: Any
    ) -> bool:
        return handler != "shout"


class SpreadChecked(Checked):
    """The same, each object at an origin of its own."""

    shared_objects = "spread"
