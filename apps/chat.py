"""A chat: each instance (`rtmp://host/chat/lobby`) is one, with rooms inside. Clients connect with a nick.

They read the SharedObjects `users` (nick to time of arrival in ms) and `log` (persistent: the last lines by number, and
`last`), and for each room `users/ROOM` and `log/ROOM`. Only the chat writes them. Clients call `say`, `say_in`, `whisper`,
`rename`, `enter` and `exit`.

All that matters is journaled, so it outlives the origin: who is here and what was said in the SharedObjects, the lines'
numbers and the rooms' names in `self.state`, the nicks in the clients' attributes.
"""

import re
import time

from headwater_origin import Application, CallError, Client, Reject, SharedObjectView, remote

from apps.nicks import checked_nick

_LINES_KEPT = 100
_LONGEST_LINE = 2000
_MOST_ROOMS = 50
_ROOM_NAME = re.compile(r"\w[\w -]{0,31}")


def _now_ms() -> float:
    return time.time() * 1000


def _checked_line(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text.strip()) <= _LONGEST_LINE:
        raise CallError("Chat.BadLine", f"a line has 1 to {_LONGEST_LINE} characters")
    return text.strip()


class Chat(Application):
    """One chat."""

    def on_start(self) -> None:
        self._users = self.shared_object("users")
        self._log = self.shared_object("log", persistent=True)

    def on_connect(self, client: Client, nick: str = "") -> None:
        nick = checked_nick(nick)
        if nick in self._users:
            raise Reject(f"{nick} is here already")
        client.attributes["nick"] = nick
        self._users[nick] = _now_ms()
        self.broadcast("joined", nick)

    def on_disconnect(self, client: Client) -> None:
        nick = client.attributes["nick"]
        del self._users[nick]
        self.broadcast("left", nick)

    def on_join(self, client: Client, room: str) -> None:
        self._users_of(room)[client.attributes["nick"]] = _now_ms()

    def on_leave(self, client: Client, room: str) -> None:
        del self._users_of(room)[client.attributes["nick"]]

    @remote
    def say(self, client: Client, text: str) -> int:
        """A line for everybody; its number is the result. Everybody's `said(number, nick, text)` is called."""
        line, nick = _checked_line(text), client.attributes["nick"]
        number = self._write(self._log, nick, line)
        self.broadcast("said", number, nick, line)
        return number

    @remote
    def say_in(self, client: Client, room: str, text: str) -> int:
        """The same in a room that the client has entered: `said_in(room, number, nick, text)` is called there."""
        self._check_inside(client, room)
        line, nick = _checked_line(text), client.attributes["nick"]
        number = self._write(self.shared_object(f"log/{room}", persistent=True), nick, line)
        self.room(room).broadcast("said_in", room, number, nick, line)
        return number

    @remote
    def whisper(self, client: Client, nick: str, text: str) -> None:
        """A line for one: their `whispered(nick, text)` is called."""
        line, nick = _checked_line(text), checked_nick(nick)
        for other in self.clients:
            if other.attributes["nick"] == nick:
                other.notify("whispered", client.attributes["nick"], line)
                return
        raise CallError("Chat.NoSuchUser", f"{nick} is not here")

    @remote
    def rename(self, client: Client, nick: str) -> str:
        """Take another nick, which is the result."""
        nick, old = checked_nick(nick), client.attributes["nick"]
        if nick in self._users:
            raise CallError("Chat.NickTaken", f"{nick} is here already")
        for users in (self._users, *(self._users_of(room.name) for room in client.rooms)):
            users.change({nick: users[old], old: None})
        client.attributes["nick"] = nick
        self.broadcast("renamed", old, nick)
        return nick

    @remote
    def enter(self, client: Client, room: str) -> None:
        """Go into a room. It is made when it is not there and there are not too many."""
        if not isinstance(room, str) or not _ROOM_NAME.fullmatch(room):
            raise CallError("Chat.BadRoom", "a room's name has 1 to 32 letters, digits, spaces or any of _ -")
        rooms = self.state.get("rooms", [])
        if room not in rooms:
            if len(rooms) >= _MOST_ROOMS:
                raise CallError("Chat.TooManyRooms", f"there are {_MOST_ROOMS} rooms: use one of them")
            self.state["rooms"] = [*rooms, room]
            self.shared_object(f"log/{room}", persistent=True)
        self.room(room).join(client)

    @remote
    def exit(self, client: Client, room: str) -> None:
        """Leave a room."""
        self._check_inside(client, room)
        self.room(room).leave(client)

    @staticmethod
    def _check_inside(client: Client, room: object) -> None:
        if all(inside.name != room for inside in client.rooms):
            raise CallError("Chat.NotInRoom", "that is not a room which you have entered")

    def _users_of(self, room: str) -> SharedObjectView:
        return self.shared_object(f"users/{room}")

    def _write(self, log: SharedObjectView, nick: str, line: str) -> int:
        """Append a line to a log; returns its number."""
        number = int(self.state.get(log.name, 0)) + 1
        self.state[log.name] = number
        entry = {"nick": nick, "text": line, "time": _now_ms()}
        log.change({str(number): entry, "last": number, str(number - _LINES_KEPT): None})
        return number
