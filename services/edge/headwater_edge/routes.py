"""Which way a client's messages about the SharedObjects of a spread scope go: by its home, or straight to the object's group.

The client's messages about an object must reach its group in the order in which they were sent. The home sends each back in
order; so one may go straight there only when none is still on its way over the home.
"""

from collections.abc import Sequence
from typing import Any

from headwater_edge.attachment import Attachment
from headwater_edge.objects import ObjectKey


class _Route:
    """`unanswered`: messages that the home has not sent back yet. `guest`: where those that need no home go, once none is."""

    __slots__ = ("guest", "unanswered")

    def __init__(self) -> None:
        self.unanswered = 0
        self.guest: Attachment | None = None


class ObjectRoutes:
    """The routes of one client."""

    __slots__ = ("_routes",)

    def __init__(self) -> None:
        self._routes: dict[ObjectKey, _Route] = {}

    def __len__(self) -> int:
        return len(self._routes)

    def next(self, key: ObjectKey, by_home: bool) -> Attachment | None:
        """The guest by which the next message about an object goes; None: it goes to the home, whose answer is waited for.
        `by_home`: it has to (it uses or releases the object)."""
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = _Route()
        elif route.guest is not None and not route.unanswered and not by_home:
            return route.guest
        route.unanswered += 1
        return None

    def routed(self, key: ObjectKey, guest: Attachment | None) -> None:
        """The home has sent a message back; the next ones go by `guest`, or by the home. A message that was not counted is
        one of a home that answers only some: there are no routes then."""
        route = self._routes.get(key)
        if route is not None and route.unanswered:
            route.guest = guest
            self._answered(key, route)

    def unrouted(self, key: ObjectKey) -> None:
        """A message went nowhere: the home has answered it. The route stays as it is."""
        route = self._routes.get(key)
        if route is not None and route.unanswered:
            self._answered(key, route)

    def _answered(self, key: ObjectKey, route: _Route) -> None:
        route.unanswered -= 1
        self._tidy(key, route)

    def forget(self, guest: Attachment) -> None:
        """The guest is detached: everything goes by the home again."""
        for key, route in list(self._routes.items()):
            if route.guest is guest:
                route.guest = None
                self._tidy(key, route)

    def dump(self, attachments: Sequence[Attachment]) -> list[list[Any]]:
        """For another edge: rows [name, persistent, unanswered, index of the guest among the attachments, or -1]."""
        return [
            [*key, route.unanswered, -1 if route.guest is None else attachments.index(route.guest)]
            for key, route in self._routes.items()
        ]

    @classmethod
    def load(cls, rows: list[list[Any]], attachments: Sequence[Attachment]) -> "ObjectRoutes":
        """What `dump` gave. Raises LookupError, TypeError or ValueError."""
        routes = cls()
        for name, persistent, unanswered, at, *_ in rows:
            route = routes._routes[name, persistent] = _Route()
            route.unanswered, route.guest = unanswered, None if at < 0 else attachments[at]
        return routes

    def _tidy(self, key: ObjectKey, route: _Route) -> None:
        if route.guest is None and not route.unanswered:
            del self._routes[key]
