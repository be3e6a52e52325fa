"""A chat room: each instance (`rtmp://host/chat/lobby`) is one. Clients give their nick as the first argument of connect.

They read the SharedObjects `users` (nick to time of arrival in ms) and `log` (the last lines by number, and `last`), which only
the room writes, and call `say`, `whisper` and `rename`.
"""

import time

from headwater_origin import Application, CallError, Client, Reject, remote

_LINES_KEPT = 100
_LONGEST_LINE = 2000
_LONGEST_NICK = 32


def _checked_nick(nick: object) -> str:
    """A nick without the space around it. Raises Reject."""
    text = " ".join(nick.split()) if isinstance(nick, str) else ""
    if not 0 < len(text) <= _LONGEST_NICK or not text.isprintable():
        raise Reject(
            f"a nick has 1 to {_LONGEST_NICK} printable characters: give it as the first argument of connect"
        )
    return text


class Chat(Application):
    """One room."""

    def on_start(self) -> None:
        self._by_nick: dict[str, Client] = {}
        self._line = 0
        self._users = self.shared_object("users")
        self._log = self.shared_object("log")

    def on_connect(self, client: Client, nick: str = "") -> None:
        nick = _checked_nick(nick)
        if nick in self._by_nick:
            raise Reject(f"{nick} is here already")
        self._enter(client, nick)
        self.broadcast("joined", nick)

    def on_disconnect(self, client: Client) -> None:
        nick = self._leave(client)
        self.broadcast("left", nick)

    @remote
    def say(self, client: Client, text: str) -> int:
        """A line for everybody; its number is the result. Everybody's `said(number, nick, text)` is called."""
        line = self._checked_line(text)
        nick = client.attributes["nick"]
        self._line += 1
        self._log.change(
            {
                str(self._line): {"nick": nick, "text": line, "time": time.time() * 1000},
                "last": self._line,
                str(self._line - _LINES_KEPT): None,
            }
        )
        self.broadcast("said", self._line, nick, line)
        return self._line

    @remote
    def whisper(self, client: Client, nick: str, text: str) -> None:
        """A line for one: their `whispered(nick, text)` is called."""
        line = self._checked_line(text)
        other = self._by_nick.get(_checked_nick(nick))
        if other is None:
            raise CallError("Chat.NoSuchUser", f"{_checked_nick(nick)} is not here")
        other.notify("whispered", client.attributes["nick"], line)

    @remote
    def rename(self, client: Client, nick: str) -> str:
        """Take another nick, which is the result."""
        nick = _checked_nick(nick)
        if nick in self._by_nick:
            raise CallError("Chat.NickTaken", f"{nick} is here already")
        old = self._leave(client)
        self._enter(client, nick)
        self.broadcast("renamed", old, nick)
        return nick

    def _enter(self, client: Client, nick: str) -> None:
        self._users[nick] = time.time() * 1000
        self._by_nick[nick] = client
        client.attributes["nick"] = nick

    def _leave(self, client: Client) -> str:
        nick: str = client.attributes["nick"]
        del self._by_nick[nick]
        del self._users[nick]
        return nick

    @staticmethod
    def _checked_line(text: object) -> str:
        if not isinstance(text, str) or not 0 < len(text.strip()) <= _LONGEST_LINE:
            raise CallError("Chat.BadLine", f"a line has 1 to {_LONGEST_LINE} characters")
        return text.strip()
