"""A whiteboard: each instance (`rtmp://host/whiteboard/lesson`) is one. Clients connect with a nick, the chair with the board's
key as well. They draw by setting slots of SharedObjects themselves; the application looks at each change before it is made.

- `page/NAME` (persistent): a slot for each shape, `NICK/NUMBER`, so nobody draws over another's. `_shape_problem` says what a
  shape is.
- `pages` (persistent): the pages' names, and who made them. Only the application writes it.
- `hands`: a slot for each client, its nick: `{page, x, y}`, where it points. So it says who is here, too.

Calls: `undo` for everybody; `add_page` and `remove_page` for the chair, who alone may clear a page and delete what others drew.
"""

import math
import re

from headwater_origin import Access, Application, CallError, Client, Reject, SharedObjectView, remote

from apps.nicks import checked_nick

_KINDS = ("line", "rectangle", "ellipse", "text")
_FIELDS = {"kind", "points", "color", "width", "text"}
_COLOR = re.compile(r"#[0-9a-f]{6}")
_MOST_POINTS = 1000
_FARTHEST = 100_000
_MOST_PAGES = 30
_PAGE_NAME = re.compile(r"\w[\w -]{0,31}")
_DRAW = Access.READ | Access.WRITE
_CHAIR = _DRAW | Access.DELETE


def _is_number(value: object, least: float = -_FARTHEST, most: float = _FARTHEST) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and least <= value <= most


def _shape_problem(shape: object) -> str | None:
    """What is wrong with a shape, if anything is."""
    if not isinstance(shape, dict) or not set(shape) <= _FIELDS or shape.get("kind") not in _KINDS:
        return f"a shape has the fields {', '.join(sorted(_FIELDS))}; its kind is one of {', '.join(_KINDS)}"
    points = shape.get("points")
    if not isinstance(points, list) or len(points) % 2 or not 2 <= len(points) <= 2 * _MOST_POINTS:
        return f"points are x, y, x, y ..., 1 to {_MOST_POINTS} of them"
    if not all(map(_is_number, points)):
        return f"a coordinate is a number, {_FARTHEST} at most"
    if not isinstance(shape.get("color"), str) or not _COLOR.fullmatch(shape["color"]):
        return "a color is #rrggbb"
    if not _is_number(shape.get("width", 1), 0, 100) or not isinstance(shape.get("text", ""), str):
        return "width is a number from 0 to 100, text a text"
    return None


def _hand_problem(hand: object) -> str | None:
    if not isinstance(hand, dict) or set(hand) != {"page", "x", "y"} or not isinstance(hand["page"], str):
        return "your slot holds page, x and y"
    return None if _is_number(hand["x"]) and _is_number(hand["y"]) else f"x and y are {_FARTHEST} at most"


class Whiteboard(Application):
    """One whiteboard."""

    def on_start(self) -> None:
        self._hands = self.shared_object("hands")
        self._pages = self.shared_object("pages", persistent=True)
        if not self._pages:
            self._pages["1"] = ""
        for name in self._pages:
            self._page(name)

    def on_connect(self, client: Client, nick: str = "", key: str = "") -> None:
        """The first key that anybody gives is the board's from then on: who has it is the chair."""
        nick = checked_nick(nick)
        if nick in self._hands:
            raise Reject(f"{nick} is here already")
        if not isinstance(key, str) or (key and self.state.setdefault("key", key) != key):
            raise Reject("that is not the key of this board; without one you may draw")
        client.attributes.update(nick=nick, chair=bool(key))
        self._hands[nick] = {"page": "", "x": 0, "y": 0}

    def on_disconnect(self, client: Client) -> None:
        del self._hands[client.attributes["nick"]]

    # What clients do with the objects

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        if persistent and self._is_page(name):
            return _CHAIR if client.attributes["chair"] else _DRAW
        if name == "hands" and not persistent:
            return _DRAW
        return super().shared_object_access(client, name, persistent)

    def shared_object_write(
        self, client: Client, name: str, persistent: bool, key: str, value: object
    ) -> Reject | None:
        nick = client.attributes["nick"]
        owner, _, number = key.partition("/")
        if name == "hands":
            problem = _hand_problem(value) if key == nick else "your slot is your nick"
        elif owner != nick or not number.isdecimal() or len(number) > 9:
            problem = "your slots are NICK/NUMBER"
        else:
            problem = _shape_problem(value) if self._is_page(name) else "this page was removed"
        return Reject(problem) if problem else None

    # Calls

    @remote
    def undo(self, client: Client, page: str) -> str | None:
        """Delete the client's shape with the highest number on that page; its slot is the result."""
        shapes = self._page(page)
        own = [key for key in shapes if key.startswith(client.attributes["nick"] + "/")]
        if not own:
            return None
        last = max(own, key=lambda key: int(key.partition("/")[2]))
        del shapes[last]
        return last

    @remote
    def add_page(self, client: Client, name: str) -> None:
        """Add a page."""
        self._check_chair(client)
        if not isinstance(name, str) or not _PAGE_NAME.fullmatch(name) or name in self._pages:
            raise CallError("Whiteboard.BadPage", "a name of its own: 1 to 32 letters, digits, spaces, _, -")
        if len(self._pages) >= _MOST_PAGES:
            raise CallError("Whiteboard.TooManyPages", f"a board has {_MOST_PAGES} pages at most")
        self._pages[name] = client.attributes["nick"]
        self._page(name)

    @remote
    def remove_page(self, client: Client, name: str) -> None:
        """Remove a page with all that is on it."""
        self._check_chair(client)
        page = self._page(name)
        page.clear()
        page.close()
        del self._pages[name]

    def _is_page(self, object_name: str) -> bool:
        return object_name.startswith("page/") and object_name[5:] in self._pages

    def _page(self, name: object) -> SharedObjectView:
        if not isinstance(name, str) or name not in self._pages:
            raise CallError("Whiteboard.NoSuchPage", "the pages are slots of the SharedObject 'pages'")
        return self.shared_object(f"page/{name}", persistent=True)

    @staticmethod
    def _check_chair(client: Client) -> None:
        if not client.attributes["chair"]:
            raise CallError("Whiteboard.NotChair", "only who connected with the board's key may do that")
